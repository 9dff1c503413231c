// What the compiler cannot check, each check a function that returns complaints. Run through script/lint.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname } from "node:path";

const git = (...args) => execFileSync("git", args, { encoding: "utf8", maxBuffer: 1 << 28 });
const files = git("ls-files", "-co", "--exclude-standard").split("\n").filter((f) => f && existsSync(f));
const sources = files.filter((f) => /\.(c|h)$/.test(f));
const product = files.filter((f) => /^src\/.*\.(c|h|def)$/.test(f));
const texts = new Map();
const text = (file) => texts.get(file) ?? (texts.set(file, readFileSync(file, "utf8")), texts.get(file));

// Blanks out comments, strings and character constants, keeping every line and column where it was.
function split(source) {
  const code = [...source];
  const comments = [];
  const slashes = [];
  let line = 1;
  for (let i = 0; i < source.length; i++) {
    const two = source.slice(i, i + 2);
    if (source[i] === "\n") line++;
    else if (two === "/*") {
      const end = source.indexOf("*/", i + 2) < 0 ? source.length : source.indexOf("*/", i + 2) + 2;
      comments.push({ line, text: source.slice(i, end) });
      for (; i < end; i++) {
        if (source[i] === "\n") line++;
        else code[i] = " ";
      }
      i--;
    } else if (two === "//") {
      slashes.push(line);
      for (; i < source.length && source[i] !== "\n"; i++) code[i] = " ";
      i--;
    } else if (source[i] === '"' || source[i] === "'") {
      const quote = source[i];
      for (i++; i < source.length && source[i] !== quote && source[i] !== "\n"; i++) {
        code[i] = "_";
        if (source[i] === "\\") code[++i] = "_";
      }
    }
  }
  return { code: code.join(""), comments, slashes };
}
const parts = new Map();
const parsed = (file) => parts.get(file) ?? (parts.set(file, split(text(file))), parts.get(file));

// Function definitions: a brace at depth 0 that follows a parameter list.
function functions(file) {
  const code = parsed(file).code.replace(/^[ \t]*#(?:[^\n]*\\\n)*[^\n]*/gm, (m) => m.replace(/[^\n]/g, " "));
  const found = [];
  let depth = 0;
  let current = null;
  let statement = 0;
  let line = 1;
  for (let i = 0; i < code.length; i++) {
    const c = code[i];
    if (c === "\n") line++;
    else if (c === "{") {
      if (depth === 0) {
        const head = code.slice(statement, i);
        const name = /([A-Za-z_]\w*)\s*\(/.exec(head.replace(/__attribute__\s*\(\(.*?\)\)|BH_[A-Z]+(\s*\([^)]*\))?/gs, ""));
        const blank = head.length - head.trimStart().length;
        current = /\)\s*$/.test(head) && name
          ? { name: name[1], line: line - head.slice(blank).split("\n").length + 1, start: i, head: head.trim() } : null;
      }
      depth++;
    } else if (c === "}") {
      depth--;
      if (depth === 0) {
        if (current) found.push({ ...current, end: line, body: code.slice(current.start, i) });
        statement = i + 1;
      }
    } else if (c === ";" && depth === 0) statement = i + 1;
  }
  return found;
}

const lineAt = (source, index) => source.slice(0, index).split("\n").length;
function matches(file, source, pattern, say) {
  return [...source.matchAll(pattern)].flatMap((m) => {
    const complaint = say(m);
    return complaint ? [`${file}:${lineAt(source, m.index)}: ${complaint}`] : [];
  });
}

const layers = { base: 0, os: 1, crypto: 1, model: 2, engine: 3, protocol: 4, flow: 5, answer: 7, gateway: 8, cli: 9, "main.c": 9 };
const stages = ["ingest", "inspect", "journal", "resolve", "policy", "ledger", "deliver"];
// Folders whose subfolders are modules that do not know each other, but for what a protocol shares with all; flow's know
// the stages before them.
const apart = new Set(["engine", "protocol"]);
const shared = new Set(["wire"]);

function included(file) {
  return [...text(file).matchAll(/^[ \t]*#[ \t]*include[ \t]+([<"])([^>"\n]+)[>"]/gm)]
    .map((m) => ({ system: m[1] === "<", path: m[2], line: lineAt(text(file), m.index) }));
}

function checkLayers() {
  return product.flatMap((file) => {
    const [, from, fromModule] = file.split("/");
    if (!(from in layers)) return [`${file}:1: no layer is called ${from}`];
    return included(file).filter((i) => !i.system).flatMap((i) => {
      const [to, toModule] = i.path.split("/");
      const at = `${file}:${i.line}: `;
      if (!existsSync(`src/${i.path}`)) return [`${at}"${i.path}" is not a path below src/`];
      if (dirname(`src/${i.path}`) !== dirname(file) && i.path.endsWith("_int.h")) return [`${at}${i.path} is private to its module`];
      if (["inspect", "policy"].includes(fromModule) && from === "flow" && to === "os") return [`${at}${fromModule} is pure and includes no os`];
      if (to !== from) return layers[to] < layers[from] || from === "main.c" ? [] : [`${at}${from} (layer ${layers[from]}) includes ${to} (layer ${layers[to]})`];
      if (toModule === fromModule || !i.path.includes("/", to.length + 1)) return [];
      if (from === "flow" && stages.indexOf(toModule) > stages.indexOf(fromModule)) return [`${at}stage ${fromModule} includes the later stage ${toModule}`];
      return apart.has(from) && !shared.has(toModule) && !fromModule.includes(".") ? [`${at}${from}/${fromModule} includes its sibling ${toModule}`] : [];
    });
  });
}

function checkCycles() {
  const complaints = [];
  const state = new Map();
  const visit = (file, path) => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      complaints.push(`${file}:1: includes itself: ${[...path.slice(path.indexOf(file)), file].join(" -> ")}`);
      return;
    }
    state.set(file, "open");
    for (const i of included(file)) if (!i.system && existsSync(`src/${i.path}`)) visit(`src/${i.path}`, [...path, file]);
    state.set(file, "done");
  };
  product.filter((f) => f.endsWith(".h")).forEach((f) => visit(f, []));
  return complaints;
}

const systemHeader = /^(sys\/|linux\/|net\/|netinet\/|arpa\/|unistd\.h|fcntl\.h|netdb\.h|poll\.h|signal\.h|dirent\.h|sched\.h|pthread\.h|semaphore\.h|spawn\.h|termios\.h|time\.h|syslog\.h|threads\.h|setjmp\.h|pwd\.h|glob\.h|dlfcn\.h)/;
const cryptoHeader = /^(openssl\/|sodium\.h|sodium\/)/;
function checkHeaders() {
  return product.flatMap((file) => included(file).filter((i) => i.system).flatMap((i) => {
    if (systemHeader.test(i.path) && !file.startsWith("src/os/")) return [`${file}:${i.line}: only src/os makes system calls, and so includes <${i.path}>`];
    if (cryptoHeader.test(i.path) && !file.startsWith("src/crypto/")) return [`${file}:${i.line}: only src/crypto includes <${i.path}>`];
    return [];
  }));
}

const banned = "strcpy strcat strncpy strncat sprintf vsprintf strtok gets atoi atol atof alloca setjmp longjmp rand srand gmtime localtime ctime asctime tmpnam mktemp";
const filesOutside = "fopen freopen fdopen popen system tmpfile remove rename opendir";
function checkBanned() {
  const any = new RegExp(`(?<![\\w.>])(${banned.replaceAll(" ", "|")})\\s*\\(`, "g");
  const disk = new RegExp(`(?<![\\w.>])(${filesOutside.replaceAll(" ", "|")})\\s*\\(`, "g");
  return product.flatMap((file) => [
    ...matches(file, parsed(file).code, any, (m) => `${m[1]} is banned`),
    ...(file.startsWith("src/os/") ? [] : matches(file, parsed(file).code, disk, (m) => `only src/os touches files: ${m[1]}`)),
  ]);
}

const eventPath = /^src\/(flow\/(ingest|inspect)|engine\/(json|http))\//;
function checkAllocation() {
  return product.filter((f) => eventPath.test(f) && f.endsWith(".c")).flatMap((file) => functions(file).flatMap((f) =>
    /_(new|init|open)$/.test(f.name) ? [] : [...f.body.matchAll(/(?<![\w.>])(malloc|calloc|realloc|strdup|strndup|aligned_alloc|posix_memalign)\s*\(/g)]
      .map((m) => `${file}:${f.line}: ${f.name} calls ${m[1]} on the event path`)));
}

// The text of a call's arguments, by matching brackets in code without strings.
function callArguments(source, code, open) {
  let depth = 0;
  for (let i = open; i < code.length; i++) {
    if (code[i] === "(") depth++;
    else if (code[i] === ")" && --depth === 0) return source.slice(open + 1, i);
  }
  return source.slice(open + 1);
}

function checkLogs() {
  return product.filter((f) => !/^src\/(os\/log\.[ch]|cli\/|main\.c|base\/check\.c)/.test(f)).flatMap((file) => {
    const { code } = parsed(file);
    const calls = matches(file, code, /(?<![\w.>])log_event\s*\(/g, (m) => {
      const args = callArguments(text(file), code, m.index + m[0].length - 1);
      const literal = /^\s*[^,"]+,\s*"((?:[^"\\]|\\.)*)"/.exec(args);
      if (!literal) return "log_event's text is not a literal";
      if (/%/.test(literal[1])) return "log_event takes no format; say it with LOG_WORD or LOG_INT";
      const fields = args.slice(literal[0].length);
      return /%[.*0-9]*s/.test(fields) || !/^\s*,\s*LOG_(WORD|INT)\s*\(/.test(fields) ? "log_event takes LOG_WORD and LOG_INT fields only" : null;
    });
    const others = matches(file, code, /(?<![\w.>])(printf|vprintf|fprintf|vfprintf|puts|fputs|putchar|perror|syslog|dprintf|log_write)\s*\(/g,
      (m) => `${m[1]}: the only way to say something is log_event`);
    return [...calls, ...others];
  });
}

function checkFunctions() {
  return sources.flatMap((file) => functions(file).flatMap((f) => {
    const lines = f.end - f.line + 1;
    const reason = parsed(file).comments.some((c) => /long because/i.test(c.text) && c.line <= f.line && c.line + c.text.split("\n").length + 1 >= f.line);
    return lines > 70 && !reason ? [`${file}:${f.line}: ${f.name} has ${lines} lines (70 at most, or a comment "long because ...")`] : [];
  }));
}

function checkComments() {
  return sources.flatMap((file) => [
    ...parsed(file).slashes.map((line) => `${file}:${line}: comments are /* */`),
    ...parsed(file).comments.filter((c) => /\b(TODO|FIXME|XXX|HACK)\b/.test(c.text)).map((c) => `${file}:${c.line}: unfinished work in a comment`),
    ...(/^src\/.*\.h$/.test(file) && !text(file).startsWith("/*") ? [`${file}:1: a header opens with what it is for`] : []),
  ]);
}

function checkNames() {
  const seen = new Map();
  return files.filter((f) => /\.(c|h|def)$/.test(f)).flatMap((file) => {
    const name = basename(file);
    const first = seen.get(name);
    seen.set(name, first ?? file);
    return first ? [`${file}:1: the name is taken by ${first}`] : [];
  });
}

// Capital words stand for a name (tests/suites/NAME), stars for any; both must fit something.
function referenceExists(path) {
  if (existsSync(path)) return true;
  const pattern = path.replace(/\b[A-Z]{4,}\b|NNNN/g, "*");
  return pattern.includes("*") && globSync(pattern).length > 0;
}
const reference = /(?<![\w/.-])((?:src|tests|docs|script|cmake)\/[A-Za-z0-9_.*\/-]*[A-Za-z0-9_*\/])/g;
function checkReferences() {
  const generated = /^(build|local|docs\/proof\/[A-Z]+\.txt)/;
  const complaint = (file, line, found) =>
    !generated.test(found) && !referenceExists(found) ? [`${file}:${line}: ${found} does not exist`] : [];
  const inText = files.filter((f) => f === "README.md" || /^(docs|src|tests)\/.*\.md$/.test(f)).filter((f) => !f.startsWith("docs/proof/"))
    .flatMap((file) => text(file).split("\n").flatMap((line, n) =>
      [...line.matchAll(reference)].flatMap((m) => complaint(file, n + 1, m[1]))));
  const inLinks = files.filter((f) => /\.md$/.test(f) && !f.includes("fixtures/"))
    .flatMap((file) => text(file).split("\n").flatMap((line, n) =>
      [...line.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)].flatMap((m) =>
        existsSync(`${dirname(file)}/${m[1]}`) ? [] : [`${file}:${n + 1}: link to ${m[1]}, which does not exist`])));
  const inComments = sources.flatMap((file) => parsed(file).comments.flatMap((c) =>
    [...c.text.matchAll(reference)].flatMap((m) => complaint(file, c.line + lineAt(c.text, m.index) - 1, m[1]))));
  return [...inText, ...inLinks, ...inComments];
}

const run = (command, args) => new Promise((resolve) => {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (d) => (output += d));
  child.stderr.on("data", (d) => (output += d));
  child.on("close", (code) => resolve({ code, output }));
});
async function parallel(items, each) {
  const queue = [...items];
  const results = [];
  await Promise.all(Array.from({ length: availableParallelism() }, async () => {
    for (let item; (item = queue.shift()); ) results.push(await each(item));
  }));
  return results.flat();
}

async function checkFormat() {
  const { output } = await run("clang-format", ["--dry-run", ...sources]);
  const places = output.split("\n").flatMap((l) => /^(\S+?:\d+):\d+: (?:warning|error)/.exec(l)?.[1] ?? []);
  return [...new Set(places)].map((p) => `${p}: not as clang-format lays it out (script/lint --fix)`);
}

async function checkTidy() {
  const database = new Set(JSON.parse(readFileSync("build/asan/compile_commands.json", "utf8")).map((e) => e.file));
  const units = sources.filter((f) => /^src\/.*\.c$/.test(f) && database.has(`${process.cwd()}/${f}`));
  units.sort((a, b) => statSync(b).size - statSync(a).size);
  return parallel(units, async (file) => {
    const { output } = await run("clang-tidy", ["-p", "build/asan", "--quiet", file]);
    return output.split("\n").filter((l) => /: (warning|error): /.test(l)).map((l) => l.replace(`${process.cwd()}/`, ""));
  });
}

const checks = [
  ["layers: lower numbers' public headers only", checkLayers],
  ["no include cycle", checkCycles],
  ["system headers only in src/os, crypto's only in src/crypto", checkHeaders],
  ["no banned function, no file outside src/os", checkBanned],
  ["no allocation on the event path", checkAllocation],
  ["logs take no value", checkLogs],
  ["functions of at most 70 lines", checkFunctions],
  ["comments: /* */, none about unfinished work, headers say what they are for", checkComments],
  ["file names unique", checkNames],
  ["no dead reference in docs and comments", checkReferences],
  ["clang-format", checkFormat],
  ...(process.argv.includes("--tidy") ? [["clang-tidy", checkTidy]] : []),
];

let failed = 0;
for (const [name, check] of checks) {
  const complaints = [...new Set(await check())].sort();
  complaints.forEach((c) => console.log(c));
  console.log(`${complaints.length === 0 ? "ok    " : "FAILED"} ${name}${complaints.length ? `: ${complaints.length}` : ""}`);
  failed += complaints.length === 0 ? 0 : 1;
}
console.log(`${checks.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
