// What calls throw, by the code of the answer: the same classes as in Python.
//
//   StepflowError               code, status
//   ├── InvalidInputError       INVALID_INPUT 400       what was sent is wrong
//   ├── UnauthorizedError       UNAUTHORIZED 401        no credential, or a bad or expired one
//   ├── ForbiddenError          FORBIDDEN 403           it may not do that
//   ├── NotFoundError           NOT_FOUND 404           no such route
//   │   ├── WorkflowNotFoundError, RunNotFoundError, EventNotFoundError
//   ├── MethodNotAllowedError   METHOD_NOT_ALLOWED 405
//   ├── ConflictError           CONFLICT 409            the run's state does not allow it
//   ├── PayloadTooLargeError    PAYLOAD_TOO_LARGE 413
//   ├── RateLimitedError        RATE_LIMITED 429        later: retryAfterS
//   ├── InternalError           INTERNAL 500            or an answer that is no Stepflow's
//   ├── NotSupportedError       NOT_SUPPORTED 501       not by the service's engine
//   ├── UnavailableError        UNAVAILABLE 503         certainly not done; 0: no connection
//   ├── OutcomeUnknownError     OUTCOME_UNKNOWN 503     perhaps done; 0: no answer came
//   ├── RunFailedError          RUN_FAILED              the run's own error, in `error` and `run`
//   └── RunCancelledError       RUN_CANCELLED
//
// A caller's own abort is thrown as the signal's reason, as everywhere on the web.

import type { ErrorCode, Run, RunErrorData } from "./types.js";

export type StepflowErrorCode = ErrorCode | "RUN_FAILED" | "RUN_CANCELLED";

/** Any refusal. `status` is the answer's, or 0 when none came. */
export class StepflowError extends Error {
  readonly code: StepflowErrorCode;
  readonly status: number;
  /** After how many seconds the server asks to come again. */
  readonly retryAfterS: number | undefined;

  constructor(message: string, code: StepflowErrorCode, status: number, retryAfterS?: number) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export class InvalidInputError extends StepflowError {}
export class UnauthorizedError extends StepflowError {}
export class ForbiddenError extends StepflowError {}
export class NotFoundError extends StepflowError {}
export class WorkflowNotFoundError extends NotFoundError {}
export class RunNotFoundError extends NotFoundError {}
export class EventNotFoundError extends NotFoundError {}
export class MethodNotAllowedError extends StepflowError {}
export class ConflictError extends StepflowError {}
export class PayloadTooLargeError extends StepflowError {}
export class RateLimitedError extends StepflowError {}
export class InternalError extends StepflowError {}
export class NotSupportedError extends StepflowError {}
export class UnavailableError extends StepflowError {}
export class OutcomeUnknownError extends StepflowError {}

/** The run failed: `error` is what the workflow raised. */
export class RunFailedError extends StepflowError {
  readonly runId: string;
  readonly error: RunErrorData;

  constructor(runId: string, error: RunErrorData) {
    super(`run ${runId} failed: ${error.type}: ${error.message}`, "RUN_FAILED", 200);
    this.runId = runId;
    this.error = error;
  }
}

/** The run was cancelled. */
export class RunCancelledError extends StepflowError {
  readonly runId: string;
  readonly error: RunErrorData;

  constructor(runId: string, error: RunErrorData) {
    super(`run ${runId} was cancelled: ${error.message}`, "RUN_CANCELLED", 200);
    this.runId = runId;
    this.error = error;
  }
}

type ErrorClass = new (message: string, code: StepflowErrorCode, status: number, retryAfterS?: number) => StepflowError;

// `satisfies`: a code that the document gains does not compile until it has its class here.
const CLASSES = {
  CONFLICT: ConflictError,
  EVENT_NOT_FOUND: EventNotFoundError,
  FORBIDDEN: ForbiddenError,
  INTERNAL: InternalError,
  INVALID_INPUT: InvalidInputError,
  METHOD_NOT_ALLOWED: MethodNotAllowedError,
  NOT_FOUND: NotFoundError,
  NOT_SUPPORTED: NotSupportedError,
  OUTCOME_UNKNOWN: OutcomeUnknownError,
  PAYLOAD_TOO_LARGE: PayloadTooLargeError,
  RATE_LIMITED: RateLimitedError,
  RUN_NOT_FOUND: RunNotFoundError,
  UNAUTHORIZED: UnauthorizedError,
  UNAVAILABLE: UnavailableError,
  WORKFLOW_NOT_FOUND: WorkflowNotFoundError,
} satisfies Record<ErrorCode, ErrorClass>;

/** Return the error that an answer stands for; `call` names the request in its message. */
export function refusal(call: string, status: number, body: string, retryAfter: string | null = null): StepflowError {
  const seconds = retryAfter !== null && /^\d{1,9}$/.test(retryAfter) ? Number(retryAfter) : undefined;
  const problem = problemOf(body);
  if (problem) {
    return new CLASSES[problem.code](problem.error, problem.code, status, seconds);
  }
  // A proxy's own page, or no Stepflow at all.
  const said = `${call}: status ${status}, and not in the API's shape`;
  if (status === 502 || status === 504) {
    return new OutcomeUnknownError(said, "OUTCOME_UNKNOWN", status, seconds);
  }
  if (status === 503) return new UnavailableError(said, "UNAVAILABLE", status, seconds);
  if (status === 429) return new RateLimitedError(said, "RATE_LIMITED", status, seconds);
  if (status === 401) return new UnauthorizedError(said, "UNAUTHORIZED", status);
  if (status === 403) return new ForbiddenError(said, "FORBIDDEN", status);
  if (status === 404) return new NotFoundError(`${said}; is the url right?`, "NOT_FOUND", status);
  if (status === 413) return new PayloadTooLargeError(said, "PAYLOAD_TOO_LARGE", status);
  if (status === 0 || (status >= 300 && status < 400)) {
    const moved = `${call} was redirected, and credentials are not sent on: give the final url`;
    return new InternalError(moved, "INTERNAL", status);
  }
  return new InternalError(`${said}; is this a Stepflow API?`, "INTERNAL", status);
}

function problemOf(body: string): { error: string; code: ErrorCode } | undefined {
  try {
    const { error, code } = JSON.parse(body) as { error?: unknown; code?: unknown };
    if (typeof error === "string" && typeof code === "string" && Object.hasOwn(CLASSES, code)) {
      return { error, code: code as ErrorCode };
    }
  } catch {
    // Not JSON, or `null`: told by its status.
  }
  return undefined;
}

/** Return the error of a run that has ended without a result. */
export function runFailure(run: Pick<Run, "id" | "status" | "error">): StepflowError {
  const error = run.error ?? { type: "Unknown", message: "no error was recorded" };
  return run.status === "cancelled" ? new RunCancelledError(run.id, error) : new RunFailedError(run.id, error);
}
