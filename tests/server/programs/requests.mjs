// Sends the example request with fetch, of known and of unknown length, and with a pool of sockets.
import http from "node:http";

const [url, body] = process.argv.slice(2);
const headers = { "Content-Type": "application/json" };

const stream = new ReadableStream({
  start(controller) {
    for (const byte of Buffer.from(body)) controller.enqueue(Uint8Array.of(byte));
    controller.close();
  },
});
for (const options of [{ body }, { body: stream, duplex: "half" }]) {
  const response = await fetch(url, { method: "POST", headers, ...options });
  process.stdout.write(`${response.status} ${await response.text()}`);
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const ports = new Set();
for (let i = 0; i < 20; i += 1) {
  await new Promise((resolve, reject) => {
    const request = http.request(url, { method: "POST", headers, agent }, (response) => {
      ports.add(response.socket.localPort);
      response.resume().on("end", resolve);
    });
    request.on("error", reject).end(body);
  });
}
agent.destroy();
console.log(`${ports.size} connection`);
