"""Options, help, manual, completion, exit codes: what needs no model."""
import os
import re
import subprocess

from harness import check, equal, test

COMMANDS = ["run", "score", "tokenize", "bench", "bench ops", "bench step", "bench head-norm-rope", "info", "pull",
            "completion"]
MANUAL = os.path.join(os.path.dirname(__file__), "../../man/mlxn.1")


def options_of_help(mlxn, command):
    """The heads of --help's rows: {"-m, --model FILE|NAME", ...}."""
    text = mlxn.ok(*command.split(), "--help").text()
    found = set()
    for line in text.splitlines():
        match = re.match(r" {2}(-\w(?:, --[\w-]+)?| {4}--[\w-]+)(?: (\S+))?(?:  .*)?$", line)
        if match:
            found.add((match.group(1).strip() + " " + (match.group(2) or "")).strip())
    return found - {"-h, --help"}


def options_of_manual():
    """{"run": {"-m, --model FILE|NAME", ...}, ...} from the .It rows of each .Ss."""
    found, section = {}, None
    with open(MANUAL, encoding="utf-8") as manual:
        for line in manual:
            line = line.rstrip("\n")
            if line.startswith(".Ss "):
                section = line[4:]
                found[section] = set()
            elif line.startswith(".Sh "):
                section = None
            elif line.startswith(".It Fl ") and section:
                head = line[4:].replace(" ,", ",").replace("Fl ", "-").replace("Ar ", "")
                found[section].add(head)
    return found


@test()
def version_and_help(mlxn, _):
    check(re.fullmatch(r"mlxn \d+\.\d+\.\d+\n", mlxn.ok("--version").text()))
    for arg in ("--help", "-h", "help"):
        result = mlxn.ok(arg)
        equal(result.err, "")
        for command in COMMANDS:
            check(f"  {command} " in result.text(), arg, "lacks", command)


@test()
def every_command_has_help(mlxn, _):
    for command in COMMANDS:
        for flag in ("-h", "--help"):
            result = mlxn.ok(*command.split(), flag)
            equal(result.err, "")
            check(result.text().startswith(f"usage: mlxn {command}"), result.text())


@test()
def manual_lists_the_options_of_help(mlxn, _):
    manual = options_of_manual()
    equal(sorted(manual), sorted(COMMANDS))
    total = 0
    for command in COMMANDS:
        shown = options_of_help(mlxn, command)
        equal(sorted(manual[command]), sorted(shown), command)
        total += len(shown)
    check(total > 50, total, "options are too few to be all")


@test()
def completion_knows_the_options_of_help(mlxn, _):
    script = mlxn.file("mlxn.bash", mlxn.ok("completion", "bash").out)
    for command in COMMANDS:
        words = ["mlxn", *command.split(), "-"]
        driver = f"source {script}; COMP_WORDS=({' '.join(words)}); " \
                 f"COMP_CWORD={len(words) - 1}; _mlxn; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", driver], stdout=subprocess.PIPE, check=True)
        offered = set(done.stdout.decode().split()) - {"-h", "--help"}
        shown = set()
        for head in options_of_help(mlxn, command):
            shown |= {word for word in re.split(r",? ", head) if word.startswith("-")}
        equal(sorted(offered), sorted(shown), command)


@test()
def completion_of_values(mlxn, _):
    script = mlxn.file("mlxn.bash", mlxn.ok("completion", "bash").out)

    def complete(*words):
        quoted = " ".join(f"'{w}'" for w in words)
        driver = f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _mlxn; " \
                 "echo \"${COMPREPLY[@]}\""
        done = subprocess.run(["bash", "-c", driver], stdout=subprocess.PIPE, check=True)
        return done.stdout.decode().split()
    equal(complete("mlxn", "sc"), ["score"])
    equal(complete("mlxn", "run", "--matmul", ""), ["exact", "fast"])
    equal(complete("mlxn", "bench", ""), ["ops", "step", "head-norm-rope"])
    equal(complete("mlxn", "bench", "ops", "-o", "j"), ["json"])
    equal(complete("mlxn", "pull", "g"), ["gemma3-270m"])
    equal(complete("mlxn", "run", "-n", ""), [])


@test()
def wrong_usage_is_2(mlxn, _):
    wrong = [[], ["nosuch"], ["--nosuch"], ["ops"]]
    for command in COMMANDS:
        wrong += [[*command.split(), "--nosuch"], [*command.split(), "-Z"]]
    wrong += [
        ["run", "extra"], ["run", "-n"], ["run", "-n", "x"], ["run", "-n", "-2"], ["run", "-n", "1x"],
        ["run", "-n", ""], ["run", "--temp", "-1"], ["run", "--temp", "nan"], ["run", "--top-p", "1.5"],
        ["run", "--min-p", "2"], ["run", "--repeat-penalty", "0"], ["run", "--matmul", "slow"],
        ["run", "--matmul=exac"], ["run", "--matmul="], ["run", "--output", "json"],
        ["run", "--ignore-eos=1"], ["run", "-p", "a", "-f", "b"], ["run", "--top-logits", "3"],
        ["run", "-n", "99999999999999999999"], ["run", "-t", "-1"], ["run", "-n8"], ["run", "-vv"],
        ["score", "-f", "a", "--ids", "b"], ["score", "--top-logits", "1"], ["score", "file"],
        ["tokenize", "--bos", "--decode"], ["bench", "-r", "0"], ["bench", "-p", "1,"],
        ["bench", "-p", ",1"], ["bench", "-p", "1,,2"], ["bench", "-o", "csv"],
        ["bench", "ops", "-p", "0"], ["bench", "nosuch"], ["info", "a", "b"], ["pull"],
        ["run", "--device", "cpu:"], ["run", "--device", "cpu:x"], ["score", "--device", "cpu:-1"],
        ["bench", "--device", ":0"], ["bench", "ops", "--device="], ["run", "--device", "cpu:0:0"],
        ["pull", "nosuch"], ["pull", "gemma3-270m", "x"], ["completion"], ["completion", "tcsh"],
    ]
    for args in wrong:
        result = mlxn.fails(*args, code=2)
        check("mlxn" in result.err, args, "says nothing")
    for args, word in ((["run", "-t", "1025"], "1024"), (["bench", "-t", "1,1025"], "1024"),
                       (["bench", "-p", "0", "-n", "0,0"], "nothing is left to measure"),
                       (["bench", "-p", "0", "-n", "0", "-o", "json"], "nothing is left to measure")):
        mlxn.fails(*args, code=2, says=word)


@test()
def missing_model_says_pull(mlxn, _):
    cache = {"XDG_CACHE_HOME": os.path.join(mlxn.folder, "empty")}
    home = {"XDG_CACHE_HOME": "", "HOME": os.path.join(mlxn.folder, "home")}
    relative = {"XDG_CACHE_HOME": "not/absolute", "HOME": os.path.join(mlxn.folder, "home")}
    for env, path in ((cache, "empty/mlxn/models/"), (home, "home/.cache/mlxn/models/"),
                      (relative, "home/.cache/mlxn/models/")):
        for args in (["run", "-p", "x"], ["run", "-m", "gemma3-270m"], ["score"], ["tokenize"],
                     ["bench"], ["bench", "ops"], ["info", "gemma3-270m"]):
            mlxn.fails(*args, env=env, says=["mlxn pull gemma3-270m", path])
    mlxn.fails("run", env={"XDG_CACHE_HOME": "", "HOME": ""}, says="HOME")


@test()
def missing_files_are_named(mlxn, _):
    for args in (["run", "-m", "/no/such.gguf"], ["score", "-m", "/no/such.gguf"],
                 ["tokenize", "-m", "/no/such.gguf"], ["bench", "-m", "/no/such.gguf"],
                 ["bench", "ops", "-m", "/no/such.gguf"], ["info", "/no/such.gguf"],
                 ["run", "-f", "/no/such.gguf"]):
        mlxn.fails(*args, says="/no/such.gguf")
    mlxn.fails("info", mlxn.folder, says=mlxn.folder)


@test()
def info_lists_devices(mlxn, _):
    text = mlxn.ok("info").text()
    check("device cpu:0:" in text and "path " in text, text)
    check("    rms_norm" in text, "no kernels:", text)
    portable = mlxn.ok("info", env={"MLXN_CPU_MASK": "portable"}).text()
    check("path portable" in portable, portable)


@test()
def output_that_cannot_be_written(mlxn, _):
    for args in (["--version"], ["--help"], ["info"], ["completion", "bash"], ["run", "--help"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([mlxn.path, *args], stdout=full, stderr=subprocess.PIPE)
        equal(done.returncode, 1, args)
        check(b"standard output" in done.stderr, args, done.stderr)


@test()
def closed_pipe_is_quiet(mlxn, _):
    for args in (["--help"], ["info"], ["completion", "bash"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([mlxn.path, *args], stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        equal((done.returncode, done.stderr), (0, b""), args)


@test()
def nothing_of_nvidia_is_needed(mlxn, _):
    """The same binary where there is no driver: it runs, and says what is missing."""
    without = {"MLXN_CUDA_DRIVER": "/nowhere/libcuda.so.1"}
    said = "no NVIDIA driver here"
    row = [line for line in mlxn.ok("info", env=without).text().splitlines()
           if line.startswith("device cuda:0:")]
    check(len(row) == 1 and said in row[0], row)
    mlxn.fails("bench", "head-norm-rope", "--device", "cuda", env=without, says=said)
    mlxn.fails("bench", "head-norm-rope", "--device", "cpu", "--baselines", says="needs a CUDA device")
    for library in mlxn.path, os.path.join(os.path.dirname(mlxn.path), "../libmlxn.so"):
        needed = subprocess.run(["readelf", "-d", library], stdout=subprocess.PIPE, check=True,
                                text=True).stdout
        check("NEEDED" in needed and not re.search("NEEDED.*(cuda|nvrtc|nvidia)", needed), needed)
