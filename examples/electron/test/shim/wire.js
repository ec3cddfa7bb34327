// Messages over a socket: a length of four bytes, then what v8 serializes.
import { deserialize, serialize } from "node:v8";

export function send(socket, message) {
    const body = serialize(message);
    const head = Buffer.alloc(4);
    head.writeUInt32LE(body.length);
    socket.write(Buffer.concat([head, body]));
}

export function receive(socket, onMessage) {
    let rest = Buffer.alloc(0);
    socket.on("data", (data) => {
        rest = Buffer.concat([rest, data]);
        while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32LE(0)) {
            const end = 4 + rest.readUInt32LE(0);
            const message = deserialize(rest.subarray(4, end));
            rest = rest.subarray(end);
            onMessage(message);
        }
    });
}
