// Makes the single file that the server embeds and serves as /rollcall.js, or the file that is named.
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const at = (path) => fileURLToPath(new URL(path, import.meta.url))

await build({
  entryPoints: [at("src/index.ts")],
  outfile: process.argv[2] ?? at("../../api/pages/rollcall.js"),
  bundle: true, format: "esm", minify: true, mangleProps: /[^_]_$/, target: "es2022", logLevel: "warning",
  banner: { js: "/*! rollcall, MIT License, (c) 2026 The rollcall authors */" },
})
