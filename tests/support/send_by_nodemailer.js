// Sends messages over one nodemailer transport; the order is JSON on stdin, what became of each is JSON on stdout.
//
//     {"module": "…/nodemailer", "transport": {…}, "messages": [{…, "raw": "base64 of the whole message"}]}
"use strict";

const fs = require("node:fs");

async function main() {
  const order = JSON.parse(fs.readFileSync(0, "utf8"));
  const transport = require(order.module).createTransport(order.transport);
  const answers = [];
  for (const message of order.messages) {
    if (message.raw) message.raw = Buffer.from(message.raw, "base64");
    const info = await transport.sendMail(message);
    answers.push({ accepted: info.accepted, rejected: info.rejected, response: info.response });
  }
  transport.close();
  process.stdout.write(JSON.stringify(answers));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
