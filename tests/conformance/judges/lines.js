"use strict";
// A judge answers each line on stdin, a question in JSON, with one line on stdout: its verdict, or {"error": why}.
// It ends with its stdin.

const { createInterface } = require("node:readline");

module.exports = (judge) => {
  let turn = Promise.resolve();
  createInterface({ input: process.stdin }).on("line", (line) => {
    turn = turn.then(async () => {
      let verdict;
      try {
        verdict = await judge(JSON.parse(line));
      } catch (error) {
        verdict = { error: `${error.name}: ${error.message}` };
      }
      process.stdout.write(`${JSON.stringify(verdict)}\n`);
    });
  });
};
