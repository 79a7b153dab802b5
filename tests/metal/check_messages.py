"""Holds what the Metal backend and the simulator believe about Apple's frameworks against two
independent descriptions of them: pyobjc's metadata (selectors with type encodings, enumeration
values) and Apple's metal-cpp (owner classes with C++ signatures).

usage: check_messages.py SOURCE_ROOT METADATA_FOLDER [SIMULATOR_LIBRARY]

Every message of messages.def must be known to both, or to one where the other has a gap, with equal
types; its class must be the one that metal-cpp files it under.  Every line of constants.h must have
the metadata's value.  Every method of the simulator is checked as a message is.  Then each planted
error must be found.  Ends with "N passed, N failed"."""
import ctypes
import glob
import os
import re
import sys
import types

from tally import Tally


def split_encoding(encoding):
    """The types of an Objective-C type encoding, offsets left out."""
    out, i = [], 0
    while i < len(encoding):
        j = i
        while encoding[j] in "^rnNoORV":
            j += 1
        if encoding[j] == "{":
            j = encoding.index("}", j) + 1
        elif encoding[j : j + 2] == "@?":
            j += 2
        else:
            j += 1
        out.append(encoding[i:j])
        i = j
        while i < len(encoding) and encoding[i].isdigit():
            i += 1
    return out


def plain(encoding):
    """Types that are passed alike under one name: BOOL, const, in/out qualifiers, char pointers."""
    encoding = encoding.lstrip("rnNoORV")
    same = {"Z": "B", "c": "B", "^c": "*", "^t": "*", "^{NSError}": "^@", "#": "@"}
    return same.get(encoding, encoding)


def as_text(value):
    return value.decode() if isinstance(value, bytes) else value


ANY = "?"  # a type that a description leaves out


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(b in (a, ANY) for a, b in zip(ours, theirs))


def split_arguments(text):
    """At the commas outside of parentheses."""
    return [a for a in re.split(r",(?![^()]*\))", text) if a.strip()]


class Pyobjc:
    """_metadata.py of pyobjc, run with a stand-in for its objc module."""

    def __init__(self, folder):
        self.methods, self.enums = {}, {}
        for framework in ("Foundation", "Metal"):
            self.read(os.path.join(folder, framework, "_metadata.py"))

    def read(self, path):
        class Anything:
            def __call__(self, *arguments, **names):
                return self

            def __getattr__(self, name):
                return self

            def __setitem__(self, *arguments):
                pass

        def register(_cls, selector, data):
            self.methods.setdefault(selector.decode(), []).append(data)

        objc = types.ModuleType("objc")
        objc.registerMetaDataForSelector = register
        objc.arch = "arm64"
        objc.__getattr__ = lambda name: Anything()
        sys.modules["objc"] = objc
        names = {}
        with open(path) as file:
            exec(compile(file.read(), path, "exec"), names)
        self.enums.update(x.split("@") for x in names["enums"].split("$") if "@" in x)

    def signatures(self, selector):
        for data in self.methods.get(selector, []):
            arguments = data.get("arguments", {})
            listed = [data.get("retval", {})]
            listed += [arguments.get(2 + i, {}) for i in range(selector.count(":"))]
            yield [plain(as_text(one["type"])) if "type" in one else ANY for one in listed]


class MetalCpp:
    """The headers of metal-cpp: a selector with the class and signature of its C++ method."""

    SIMPLE = {
        "void": "v", "bool": "B", "NS::UInteger": "Q", "NS::Integer": "q", "uint64_t": "Q",
        "CFTimeInterval": "d", "double": "d", "float": "f", "SEL": ":", "MTL::Size": "{MTLSize=QQQ}",
        "UInteger": "Q", "Integer": "q", "StringEncoding": "Q",
    }

    def __init__(self, folder):
        self.enum_types, self.found, self.bases = {}, {}, {}
        headers = [p for d in ("Foundation", "Metal") for p in glob.glob(f"{folder}/{d}/*.hpp")]
        texts = [open(path, errors="replace").read() for path in sorted(headers)]
        selectors = {}
        for text in texts:
            for base, name in re.findall(
                r"_(?:MTL|NS)_(?:ENUM|OPTIONS)\(\s*(NS::U?Integer|U?Integer)\s*,\s*(\w+)\)", text
            ):
                self.enum_types[name] = "Q" if "UInteger" in base else "q"
            for name, selector in re.findall(
                r"_(?:MTL|NS)_PRIVATE_DEF_SEL\(\s*(\w+)\s*,\s*\"([^\"]+)\"", text
            ):
                selectors[name] = selector
            for prefix, name, base in re.findall(
                r"namespace (MTL|NS)\b|class (\w+)\s*:\s*public NS::\w+<[^,>]*,?\s*([\w:]*)", text
            ):
                space = prefix or space
                if name:
                    self.bases[space + name] = base.replace("::", "") if "::" in base else (
                        space + base if base else "NSObject")
        for text in texts:
            # what every object has is filed in templates
            for result, name, rest in re.findall(
                r"sendMessage<(\w+\*?)>\(\w+, _NS_PRIVATE_SEL\((\w+)\)((?:, \w+)*)\)", text
            ):
                if result in ("void", "_Class*") and name in selectors and not rest:
                    self.add(selectors[name], "NSObject", "void" if result == "void" else "id*", "")
        method = re.compile(
            r"_(?:MTL|NS)_INLINE\s+([^;{}]*?)\b((?:MTL|NS)::(?:\w+::)?)(\w+)\(([^;{}]*?)\)"
            r"\s*(?:const)?\s*\{(.*?)\n\}", re.S
        )
        for text in texts:
            for result, owner, _name, arguments, body in method.findall(text):
                used = re.search(r"_(?:MTL|NS)_PRIVATE_SEL\((\w+)\)", body)
                if used and used.group(1) in selectors:
                    self.add(selectors[used.group(1)], owner, result, arguments)

    def add(self, selector, owner, result, arguments):
        listed = split_arguments(arguments)
        if selector == "respondsToSelector:":
            listed = listed[1:]  # the receiver is an argument there
        signature = [self.encode(result, False)] + [self.encode(a, True) for a in listed]
        self.found.setdefault(selector, []).append((owner.replace("::", ""), signature))

    def encode(self, text, named):
        if "(^" in text:
            return "@?"
        text = re.sub(r"\b(const|class|static)\b", "", text).strip()
        if named:
            text = re.sub(r"\s*\b\w+(\[\])?$", "", text).strip()
        text = re.sub(r"\s*\*\s*", "*", text)
        if text in self.SIMPLE:
            return self.SIMPLE[text]
        if text.split("::")[-1] in self.enum_types:
            return self.enum_types[text.split("::")[-1]]
        if re.search(r"Handler\b", text):
            return "@?"
        if text == "void*":
            return "^v"
        if text == "char*":
            return "*"
        if "Reflection" in text or text.endswith("**"):
            return "^@"
        return "@" if text.endswith("*") else text

    def signatures(self, owner, selector):
        """Those of a class and what it inherits."""
        chain = [owner]
        while chain[-1] in self.bases:
            chain.append(self.bases[chain[-1]])
        return [s for o, s in self.found.get(selector, []) if o in chain + ["NSObject"]]


class Beliefs:
    """What the backend and the simulator say."""

    def __init__(self, root, simulator):
        folder = os.path.join(root, "src/backends/metal")
        with open(os.path.join(folder, "objc.h")) as file:
            encodings = dict(re.findall(r"X\((\w+), [^\"]+, \"([^\"]+)\"\)", file.read()))
        encodings["NONE"] = "v"
        self.messages = []
        with open(os.path.join(folder, "messages.def")) as file:
            for count, _, owner, selector, listed in re.findall(
                r"MESSAGE(\d)\((\w+),\s*(\w+),\s*\"([^\"]+)\",\s*([^)]*)\)", file.read()
            ):
                names = listed.replace(",", " ").split()
                assert len(names) == int(count) + 1, selector
                self.messages.append((owner, selector, [encodings[n] for n in names]))
        with open(os.path.join(folder, "constants.h")) as file:
            self.constants = dict(re.findall(r"^\s+(\w+) = (\w+),", file.read(), re.M))
        if simulator:
            library = ctypes.CDLL(simulator)
            library.metalsim_methods.restype = ctypes.c_char_p
            for line in library.metalsim_methods().decode().splitlines():
                owner, selector, encoding = line.split(" ", 2)
                ours = split_encoding(encoding)
                self.messages.append((owner, selector, [plain(t) for t in ours[:1] + ours[3:]]))


def check_message(message, pyobjc, metal_cpp):
    """What is wrong with it; empty: nothing."""
    owner, selector, ours = message
    ours = [plain(t) for t in ours]
    if len(ours) - 1 != selector.count(":"):
        return [f"[{owner} {selector}] has {len(ours) - 1} arguments in the table"]
    problems = []
    theirs = list(pyobjc.signatures(selector))
    listed = metal_cpp.found.get(selector, [])
    of_class = metal_cpp.signatures(owner, selector)
    if not theirs and not listed:
        problems.append(f"[{owner} {selector}] is in neither description")
    if listed and not of_class:
        problems.append(f"[{owner} {selector}]: metal-cpp has it in {[o for o, _ in listed]}")
    if of_class and ours not in of_class:
        problems.append(f"[{owner} {selector}] is {ours}, metal-cpp has {of_class}")
    # pyobjc does not say of which class: where two classes differ, metal-cpp has decided
    if theirs and not any(equal(ours, t) for t in theirs) and len({str(s) for _, s in listed}) < 2:
        problems.append(f"[{owner} {selector}] is {ours}, pyobjc has {theirs}")
    return problems


def check_constant(name, value, pyobjc):
    if pyobjc.enums.get(name) != str(int(value, 0)):
        return [f"{name} is {value}, pyobjc has {pyobjc.enums.get(name)}"]
    return []


PLANTED = [
    ("MTLDevice", "newBufferWithLength:options:", ["@", "Q", "d"]),  # a wrong argument
    ("MTLDevice", "newBufferWithLenght:options:", ["@", "Q", "Q"]),  # a letter
    ("MTLDevice", "newBufferWithLength:", ["@", "Q"]),  # no such method
    ("MTLCommandQueue", "newLibraryWithSource:options:error:", ["@", "@", "@", "^@"]),  # the class
    ("MTLComputeCommandEncoder", "dispatchThreadgroups:threadsPerThreadgroup:",
     ["v", "{MTLSize=III}", "{MTLSize=III}"]),
    ("MTLCommandBuffer", "GPUStartTime", ["Q"]),  # a wrong result
    ("MTLCompileOptions", "setMathMode:", ["v", "Q"]),  # signed
    ("MTLComputeCommandEncoder", "setBytes:length:atIndex:", ["v", "^v", "Q"]),  # one missing
    ("MTLCommandBuffer", "addCompletedHandler:", ["v", "@"]),  # a block
]
PLANTED_CONSTANTS = [("MTLCommandBufferStatusError", "4"), ("MTLBarrierScopeBuffer", "1")]


def main():
    root, folder = sys.argv[1], sys.argv[2]
    pyobjc, metal_cpp = Pyobjc(folder), MetalCpp(os.path.join(folder, "metal-cpp"))
    beliefs = Beliefs(root, sys.argv[3] if len(sys.argv) > 3 else None)
    tally = Tally()
    for message in beliefs.messages:
        problems = check_message(message, pyobjc, metal_cpp)
        tally.count(not problems, "\n".join(problems))
    for name, value in beliefs.constants.items():
        problems = check_constant(name, value, pyobjc)
        tally.count(not problems, "\n".join(problems))
    for message in PLANTED:
        tally.count(check_message(message, pyobjc, metal_cpp), f"not found: {message}")
    for name, value in PLANTED_CONSTANTS:
        tally.count(check_constant(name, value, pyobjc), f"not found: {name} = {value}")
    print(f"{len(beliefs.messages)} methods, {len(beliefs.constants)} constants; known: "
          f"{len(pyobjc.methods)} selectors of pyobjc, {len(metal_cpp.found)} of metal-cpp")
    return tally.end()


sys.exit(main())
