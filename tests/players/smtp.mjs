// A mail server for the tests: prints each mail that it accepts as a line of JSON on stderr. The
// first is its port. Arguments: --tls KEY CERT offers STARTTLS and asks for the name ada and the
// password s3cret%; --busy N refuses the first N mails for now.

import fs from "node:fs";
import { SMTPServer } from "smtp-server";

const option = (name, count) => {
  const index = process.argv.indexOf(name);
  return index < 0 ? null : process.argv.slice(index + 1, index + 1 + count);
};
const tls = option("--tls", 2);
let busy = Number(option("--busy", 1)?.[0] ?? 0);

const server = new SMTPServer({
  logger: false,
  disabledCommands: tls ? [] : ["AUTH", "STARTTLS"],
  key: tls && fs.readFileSync(tls[0]),
  cert: tls && fs.readFileSync(tls[1]),
  // A password only after STARTTLS.
  allowInsecureAuth: false,
  authOptional: !tls,
  onAuth({ username, password }, session, done) {
    if (username === "ada" && password === "s3cret%") done(null, { user: username });
    else done(new Error("wrong credentials"));
  },
  onData(stream, session, done) {
    const pieces = [];
    stream.on("data", (piece) => pieces.push(piece));
    stream.on("end", () => {
      if (busy > 0) {
        busy -= 1;
        console.error(JSON.stringify({ refused: true }));
        const error = new Error("come back later");
        error.responseCode = 451;
        done(error);
        return;
      }
      const { envelope, secure, user } = session;
      const to = envelope.rcptTo.map((recipient) => recipient.address);
      const from = envelope.mailFrom.address;
      const text = Buffer.concat(pieces).toString("utf8");
      console.error(JSON.stringify({ from, to, secure, user: user ?? null, text }));
      done();
    });
  },
});
server.on("error", (error) => console.error(error.message));
server.listen(0, "127.0.0.1", () => {
  console.error(JSON.stringify({ port: server.server.address().port }));
});
