import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const installed = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

const flags = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

// launch starts a headless Chromium. options are Playwright's.
export function launch(options = {}) {
  const executablePath = process.env.CHROMIUM || installed.find((path) => existsSync(path));
  assert.ok(executablePath, "no Chromium found: install it (make deps) or set CHROMIUM to its path");
  return chromium.launch({ executablePath, args: flags, ...options });
}

// people returns what a tab of the demo shows, line by line.
export function people(tab) {
  return tab.locator("#people li").allTextContents();
}

// Visitor is a browser profile with tabs on one server. It notes what a developer would see in the console in red, dialogs,
// and the sessions of its tabs.
export class Visitor {
  complaints = [];
  requests = [];

  static async open(browser, server) {
    const visitor = new Visitor();
    visitor.server = server;
    visitor.context = await browser.newContext();
    visitor.context.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") visitor.complaints.push(message.text());
    });
    visitor.context.on("weberror", (error) => visitor.complaints.push(error.error().message));
    visitor.context.on("dialog", (dialog) => {
      visitor.complaints.push(`dialog: ${dialog.message()}`);
      return dialog.dismiss();
    });
    visitor.context.on("request", (request) => visitor.requests.push(request.url()));
    return visitor;
  }

  async tab(path) {
    const tab = await this.context.newPage();
    await tab.goto(this.server.url + path);
    return tab;
  }

  demo(name, topic) {
    return this.tab(`/demo?${new URLSearchParams(topic ? { name, topic } : { name })}`);
  }

  sessions() {
    return this.requests.map((url) => new URL(url).searchParams.get("session")).filter(Boolean);
  }

  close() {
    return this.context.close();
  }
}
