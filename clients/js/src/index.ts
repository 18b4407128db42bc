// @stepflow/client: start, watch and steer Stepflow's runs from JavaScript.

export type {
  CallOptions,
  ClientOptions,
  ReadOptions,
  ReasonOptions,
  RunFilter,
  RunRef,
  StreamOptions,
  TriggerOptions,
} from "./client.js";
export { createClient, StepflowClient } from "./client.js";
export type { GetToken } from "./credentials.js";
export * from "./errors.js";
export type { components, operations, paths } from "./openapi.js";
export type { RunCallbacks, RunSubscription, SubscribeOptions } from "./subscription.js";
export type * from "./types.js";
