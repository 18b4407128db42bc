// The shared worker: one stream for all tabs, of which a browser would open but six to one host.
import { base } from "../base.js";
import { Hub } from "./hub.js";

const hub = new Hub(base);

addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data }) => hub.hear(port, data);
});
