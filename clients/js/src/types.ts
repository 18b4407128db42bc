// What users see of the API's shapes. They come from the OpenAPI document (`openapi.ts`); only what
// a document cannot say is written here: which data goes with which event, and types of one's own
// workflows.

import type { components } from "./openapi.js";

type Schemas = components["schemas"];

export type RunStatus = Schemas["Run"]["status"];
export type Step = Schemas["Step"];
export type RunErrorData = Schemas["RunError"];
/** A run; `Output` is the type of its result, where you know it. Rows of lists have no `steps`. */
export type Run<Output = unknown> = Omit<Schemas["Run"], "result"> & { result?: Output };
export type Why = Schemas["WhyView"];
export type Workflow = Schemas["Workflow"];
export type Health = Schemas["Health"];
export type TokenGrant = Schemas["TokenGrant"];
export type BatchFailure = Schemas["BatchFailure"];
export type ErrorCode = Schemas["Error"]["code"];
export type AwaitedEvent = Schemas["AwaitedEvent"];

declare const output: unique symbol;

/** A run that was triggered. It carries its workflow's output type to `result`, in types alone. */
export interface Triggered<Output = unknown> {
  readonly runId: string;
  readonly publicAccessToken: string;
  readonly [output]?: Output;
}

export interface RunPage {
  readonly runs: Run[];
  readonly nextCursor: string | null;
  /** Where `stream` goes on so that nothing between the list and the stream is missed. */
  readonly streamCursor: string;
  /** How many runs have each status, of all or of one workflow; absent where a tag or a time was asked for. */
  readonly counts?: Schemas["RunCounts"];
}

/** Workflows by id, as `createClient<Workflows>()` takes them. */
export type WorkflowTypes<W> = { [K in keyof W]: { input: unknown; output: unknown } };
export type AnyWorkflows = Record<string, { input: unknown; output: unknown }>;

interface Told<Name extends string, Data> {
  readonly event: Name;
  readonly data: Data;
  /** The event's own id; an event that is not journaled has none. */
  readonly id?: string;
  /** Where to go on after this event: `{ lastEventId }` of a later subscription. */
  readonly lastEventId: string;
}

/** One event of one run's stream: `event` says what `data` is. */
export type RunEvent<Output = unknown> =
  | Told<"status", Schemas["StatusEvent"]>
  | Told<"step", Schemas["StepEvent"]>
  | Told<"emit", Schemas["EmitEvent"]>
  | Told<"progress", Schemas["ProgressEvent"]>
  | Told<"complete", { readonly status: "completed"; readonly result: Output }>
  | Told<"error", Schemas["ErrorEvent"]>
  | Told<"resync", Run<Output>>;

interface OfRun {
  readonly runId: string;
  readonly workflowId: string;
  /** When it happened, RFC 3339. */
  readonly at: string;
}

/** One event of the stream of many runs: its data says whose it is. */
export type StreamEvent =
  | Told<"status", Schemas["StatusEvent"] & OfRun>
  | Told<"step", Schemas["StepEvent"] & OfRun>
  | Told<"emit", Schemas["EmitEvent"] & OfRun>
  | Told<"progress", Schemas["ProgressEvent"] & OfRun>
  | Told<"complete", { readonly status: "completed"; readonly result: unknown } & OfRun>
  | Told<"error", Schemas["ErrorEvent"] & OfRun>
  /** What lies between the cursor and now is not kept: read the list again. */
  | Told<"resync", { readonly [name: string]: unknown }>;

/** How a subscription's connection is. */
export type ConnectionState = "connecting" | "open" | "waiting" | "closed";
