/* json_test.c - the tests' JSON reader, on which recorded data depend. */
#include "json.h"
#include "test.h"

TEST(json_reads)
{
    static const char text[] = " {\"a\": [1, -2.5e2, true, false, null], \"\\u00e9\\n\\\"\": "
                               "\"x\\u20ac\\ud83d\\ude00\\/\", \"o\": {}, \"e\": []} ";
    json_document *d = json_parse(text, sizeof text - 1, NULL);
    int ids[8];
    REQUIRE(d);
    const json_value *root = json_root(d), *a = json_get(root, "a");
    CHECK(root->kind == JSON_OBJECT && root->count == 4 && a && a->count == 5);
    CHECK(json_ids(a, ids, 2) == 2 && ids[0] == 1 && ids[1] == -250);
    CHECK(a->first->next->next->kind == JSON_BOOL && a->first->next->next->number == 1);
    CHECK(a->first->next->next->next->number == 0);
    CHECK(!strcmp(json_text(root, "\xc3\xa9\n\""), "x\xe2\x82\xac\xf0\x9f\x98\x80/"));
    CHECK(json_get(root, "o")->count == 0 && json_get(root, "e")->kind == JSON_ARRAY);
    CHECK(!json_get(root, "none") && !json_get(a, "a") && json_number(root, "o") == 0);
    json_free(d);
}

TEST(json_refuses)
{
    static const char *const texts[] = {
        "",         "{",    "[1,]", "[1 2]", "{\"a\" 1}",   "{a: 1}",    "\"x",      "\"\\x\"",
        "tru",      "+1",   "1 1",  "nan",   "\"\\ud800\"", "\"\\u12\"", "[\"\n\"]", "-",
        "{\"a\":}", "[[[[", "\"\\", "]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t at = 0;
        json_document *d = json_parse(texts[i], strlen(texts[i]), &at);
        if (d)
            test_failed(__FILE__, __LINE__, "%s is taken for JSON", texts[i]);
        json_free(d);
    }
    char deep[1000];
    memset(deep, '[', sizeof deep);
    CHECK(!json_parse(deep, sizeof deep, NULL));
}
