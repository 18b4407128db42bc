// Markup as template literals: `html` makes Preact's elements, never a text that is parsed as HTML.
import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";

export const html = htm.bind(h);
