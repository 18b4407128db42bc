// A JSON Schema as the fields of a form, and the form's values as JSON. PURE.
//
// What is drawn as fields: objects of known properties, text, numbers, booleans, choices, dates, lists,
// and nullable ones of these. All else is a field of raw JSON in its place, so that every input can be
// entered; the server has the last word on whether it fits.

const DEPTH_MOST = 6;

/** Return the field of a schema: `{ kind, label, required, help, ... }`. */
export function fieldOf(schema, root = schema, { label = "", required = true, depth = 0 } = {}) {
  const seen = resolve(schema, root);
  const base = { label: label || seen.title || "", required, help: seen.description ?? "" };
  if (seen.default !== undefined) base.fallback = seen.default;
  if (depth > DEPTH_MOST) return { ...base, kind: "json" };
  if (seen.const !== undefined) return { ...base, kind: "choice", options: [seen.const] };
  if (Array.isArray(seen.enum)) return { ...base, kind: "choice", options: seen.enum };
  const union = seen.anyOf ?? seen.oneOf;
  if (union) {
    const parts = union.map((part) => resolve(part, root));
    const rest = parts.filter((part) => part.type !== "null");
    if (rest.length === 1 && rest.length < parts.length) {
      const inner = fieldOf(rest[0], root, { label, required: false, depth: depth + 1 });
      return {
        ...inner,
        help: inner.help || base.help,
        nullable: true,
        ...("fallback" in base ? { fallback: base.fallback } : {}),
      };
    }
    if (rest.every((part) => part.const !== undefined)) {
      return { ...base, kind: "choice", options: parts.map((part) => part.const ?? null) };
    }
    return { ...base, kind: "json" };
  }
  const type = Array.isArray(seen.type) ? seen.type.filter((one) => one !== "null") : seen.type;
  const nullable = Array.isArray(seen.type) && seen.type.includes("null");
  const one = Array.isArray(type) ? (type.length === 1 ? type[0] : undefined) : type;
  if (nullable) base.nullable = true;
  if (one === "object" && seen.properties) {
    const needed = new Set(seen.required ?? []);
    const fields = Object.entries(seen.properties).map(([name, part]) => ({
      name,
      ...fieldOf(part, root, { label: name, required: needed.has(name), depth: depth + 1 }),
    }));
    return { ...base, kind: "object", fields };
  }
  if (one === "array" && seen.items && seen.items !== true && !seen.prefixItems) {
    return {
      ...base,
      kind: "list",
      item: fieldOf(seen.items, root, { label: "item", depth: depth + 1 }),
      most: seen.maxItems,
    };
  }
  if (one === "string") {
    const { minLength, maxLength, pattern } = seen;
    const input =
      { date: "date", "date-time": "datetime-local", email: "email", uri: "url" }[seen.format] ??
      "text";
    return { ...base, kind: "text", input, minLength, maxLength, pattern, format: seen.format };
  }
  if (one === "integer" || one === "number") {
    const { minimum, maximum } = seen;
    return { ...base, kind: "number", whole: one === "integer", minimum, maximum };
  }
  if (one === "boolean") return { ...base, kind: "flag" };
  if (one === "null") return { ...base, kind: "none" };
  return { ...base, kind: "json" };
}

function resolve(schema, root, seen = new Set()) {
  if (schema === true || schema === undefined || schema === null) return {};
  if (typeof schema !== "object") return {};
  if (typeof schema.$ref !== "string") {
    return schema.allOf?.length === 1
      ? { ...resolve(schema.allOf[0], root, seen), ...without(schema, "allOf") }
      : schema;
  }
  if (!schema.$ref.startsWith("#/") || seen.has(schema.$ref)) return {};
  seen.add(schema.$ref);
  const parts = schema.$ref
    .slice(2)
    .split("/")
    .map((part) => decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~"));
  let at = root;
  for (const part of parts) at = Object.hasOwn(at ?? {}, part) ? at[part] : undefined;
  return { ...resolve(at, root, seen), ...without(schema, "$ref", "$defs") };
}

function without(object, ...names) {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}

/** Return what the form shows at first, or for a value that is there already. */
export function draftOf(field, value = field.fallback) {
  switch (field.kind) {
    case "object":
      return Object.fromEntries(
        field.fields.map((part) => [part.name, draftOf(part, value?.[part.name] ?? part.fallback)]),
      );
    case "list":
      return Array.isArray(value) ? value.map((item) => draftOf(field.item, item)) : [];
    case "flag":
      // A flag that need not be given has three states.
      return typeof value === "boolean" ? value : field.required ? false : null;
    case "choice":
      return value !== undefined && field.options.some((option) => same(option, value))
        ? JSON.stringify(value)
        : "";
    case "json":
      return value === undefined ? "" : JSON.stringify(value, null, 2);
    case "none":
      return null;
    default:
      return value === undefined || value === null ? "" : String(value);
  }
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

const ABSENT = Symbol("absent");

/** Return `{ value, errors }` of a draft; `errors` is a Map from path to what is wrong there. */
export function valueOf(field, draft) {
  const errors = new Map();
  const value = read(field, draft, [], errors);
  return { value: value === ABSENT ? null : value, errors };
}

function read(field, draft, path, errors) {
  const wrong = (text) => {
    errors.set(path.join("."), text);
    return ABSENT;
  };
  const empty = () => {
    if (!field.required) return ABSENT;
    if (field.nullable) return null;
    return wrong("This is needed.");
  };
  switch (field.kind) {
    case "object": {
      const found = Object.create(null);
      for (const part of field.fields) {
        const value = read(part, draft?.[part.name], [...path, part.name], errors);
        if (value !== ABSENT) found[part.name] = value;
      }
      // An object that need not be there, of which nothing was entered, is left out.
      if (!field.required && Object.keys(found).length === 0) return ABSENT;
      return { ...found };
    }
    case "list": {
      const items = draft
        .map((item, n) => read(field.item, item, [...path, n], errors))
        .filter((item) => item !== ABSENT);
      if (!field.required && items.length === 0) return ABSENT;
      return items;
    }
    case "flag":
      return draft === null || draft === undefined ? ABSENT : draft;
    case "choice":
      return draft === "" ? empty() : JSON.parse(draft);
    case "number": {
      const text = String(draft).trim();
      if (text === "") return empty();
      const number = Number(text);
      if (!Number.isFinite(number)) return wrong("This is no number.");
      if (field.whole && !Number.isInteger(number)) return wrong("A whole number is needed.");
      if (field.whole && !Number.isSafeInteger(number))
        return wrong("So large a number is entered as raw JSON.");
      if (field.minimum !== undefined && number < field.minimum)
        return wrong(`At least ${field.minimum}.`);
      if (field.maximum !== undefined && number > field.maximum)
        return wrong(`At most ${field.maximum}.`);
      return number;
    }
    case "json": {
      if (draft.trim() === "") return empty();
      try {
        return JSON.parse(draft);
      } catch (error) {
        return wrong(`This is no JSON: ${error.message}`);
      }
    }
    case "none":
      return null;
    default: {
      if (draft === "" && !(field.required && !field.nullable))
        return field.required ? null : ABSENT;
      if (field.minLength !== undefined && [...draft].length < field.minLength)
        return wrong(`At least ${field.minLength} characters.`);
      if (field.maxLength !== undefined && [...draft].length > field.maxLength)
        return wrong(`At most ${field.maxLength} characters.`);
      if (field.format === "date-time" && draft) {
        const at = new Date(draft);
        return Number.isNaN(at.getTime()) ? wrong("This is no time.") : at.toISOString();
      }
      return draft;
    }
  }
}
