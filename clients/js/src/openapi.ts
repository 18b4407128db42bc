// Made by `make openapi` from openapi.yaml, sha256 6b6fcabd456a6b139afcd885c7ba8c00e33af0885fb101282573035e6c18cd34.

export interface paths {
    "/trigger/{workflowId}": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The workflow's id.
                 * @example welcome-user
                 */
                workflowId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Start a run
         * @description The body is the workflow's input: any JSON value; an empty body is `null`. The answer comes when the run is durable: a crash cannot lose it.
         */
        post: operations["triggerWorkflow"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/bulk": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Do one thing to many runs
         * @description To all runs that the filter takes, newest first, at most 1,000 a call; `nextCursor` goes on. With `dryRun` nothing is done. `purge` asks for the scope `admin`, all else for `control`. An empty filter is 400.
         */
        post: operations["bulkRuns"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /**
         * Read a run
         * @description `steps` lists what the workflow asked for by name, in the order of first asking. A step without a result yet is `pending`. A completed run has `result`; a failed or cancelled one has `error`.
         */
        get: operations["getRun"];
        put?: never;
        post?: never;
        /**
         * Forget a finished run
         * @description With its events and its idempotency key; who did it stays in the audit. A live run is 409: cancel it first.
         */
        delete: operations["purgeRun"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/stream": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /**
         * Watch a run
         * @description Server-sent events: the run's history, then what follows. Each event's `id` is where to go on: a client that sends it as `Last-Event-ID` gets precisely what it missed. `status`: the run's status changed or a step began. `step`: a step completed or failed. `complete` and `error` end the stream. `emit` and `progress` come from the workflow. `resync` brings the whole run when history is not kept. `expired`: the token is over. A finished run whose last event the client has is 204, which stops an `EventSource`.
         */
        get: operations["streamRun"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Watch many runs
         * @description Server-sent events of all runs, or of those that the query names: the same events as on each run's own stream, with their time, `at`, and the run's `runId` and `workflowId` in their data. Without a cursor it begins now. A cursor is the `id` of an event or the `streamCursor` of a page of runs: list, then stream from there, and nothing is missed. What is older than the last 50,000 events, or another store's, brings `resync`: list again. It never ends by itself; the end of a run is an event like others. A public access token of one run is 403 here; one of `POST /tokens` sees the runs that it is for.
         */
        get: operations["streamRuns"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/notify/{eventId}": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The event's id: the rest of the path, percent-encoded.
                 * @example paid-1042
                 */
                eventId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Deliver an event
         * @description The body is the event's payload: any JSON value; an empty body is `null`. It reaches every live run that waits for the event, and is kept for every live run that declared it and does not wait now. It is durable when the answer comes.
         */
        post: operations["notifyEvent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Is the process alive?
         * @description Says ok while the process serves. What is degraded shows in `/ready`.
         */
        get: operations["getHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/trigger/{workflowId}/batch": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The workflow's id.
                 * @example welcome-user
                 */
                workflowId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Start many runs
         * @description One durable write for all: at most 1,000 inputs. Each has its run or its error, in order.
         */
        post: operations["triggerWorkflowBatch"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List runs
         * @description Newest first; rows carry no `steps`. A page goes on where `nextCursor` says. `counts` says how many runs have each status, of all or of that `workflowId`, whatever the page shows; it is absent where `tag` or a time is asked for.
         */
        get: operations["listRuns"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/why": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /**
         * Why is it waiting?
         * @description In one sentence and as data: the event that nobody sent and ids like it that were, the retry and its last error, the queue, a pause, a child, missing code.
         */
        get: operations["explainRun"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/steps/{stepKey}": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
                /**
                 * @description The step's key: the rest of the path, percent-encoded.
                 * @example charge#1
                 */
                stepKey: string;
            };
            cookie?: never;
        };
        /**
         * Read one step of a run
         * @description The entry of the run's `steps` that has this key: a step, a sleep, an event or a child. The key is the rest of the path, percent-encoded, slashes too.
         */
        get: operations["getStep"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/audit": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /**
         * Who did what to this run
         * @description Oldest first; kept as long as the run.
         */
        get: operations["getRunAudit"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Who did what lately
         * @description Newest first: acts on all runs, purges and bulk actions among them, also when the run has gone. The newest 10,000 are kept, and no more than 8 MiB.
         */
        get: operations["listAudit"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Cancel a run
         * @description Recorded; the workflow hears `CancelledError` and has 30 s to clean up. Meanwhile the run's `state` is `cancelling`. A second cancel while it is cancelling is 200. With `force` the run, and the children that it awaits, end at once, without any cleanup.
         */
        post: operations["cancelRun"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Hold a run before its next effect
         * @description Steps that run are let end; timers fire and events are taken, and the workflow hears of them when the run is resumed. Nothing new begins. Its `state` is `paused`, also after a restart. A run that has ended, is being cancelled or is paused is 409.
         */
        post: operations["pauseRun"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Let a run go on that is paused or was set aside
         * @description A paused run goes on. So does one whose `state` is `quarantined` because its code took the process down; what was counted against it is forgotten. A run that is neither, or whose records cannot be applied, is 409.
         */
        post: operations["resumeRun"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Let a run go on from where it failed
         * @description Under its own id and token. What is recorded is kept and not run again; the step that failed is made again. What cleaned up, compensations and what they undid are taken back. Only a failed or cancelled run is retried, any other is 409.
         */
        post: operations["retryRun"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/fork": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Start a run from a step of this one
         * @description The fork keeps what was recorded before `fromStep` was first asked for, and goes on from there with a stream of its own. `input` is another input, `results` pins what steps come to. Steps go by key; a name means its first occurrence; a step that the run does not have is 400.
         */
        post: operations["forkRun"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/token": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make a public access token
         * @description It reads this one run and its stream, from a browser, and nothing else. `ttl` is 24 hours unless given; from one minute to 30 days.
         */
        post: operations["createRunToken"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make a public access token of many runs
         * @description It reads every run that bears `tag`, those to come too, or up to 100 by `runIds`, each run's stream, and `/stream`, which then shows these runs alone. `ttl` is 24 hours unless given; from one minute to 30 days.
         */
        post: operations["createToken"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/runs/{runId}/export": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /**
         * A run as one file
         * @description Its records as JSON lines with a head that names version and checksum, for `stepflow.testing.replay`. Values under names such as `password`, `token` and `secret` are masked; `STEPFLOW_MASK_NAMES` and `mask` name further ones.
         */
        get: operations["exportRun"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/workflows": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List workflows
         * @description What can be triggered, with the JSON Schema of each input and output.
         */
        get: operations["listWorkflows"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/workflows/{workflowId}": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The workflow's id.
                 * @example welcome-user
                 */
                workflowId: string;
            };
            cookie?: never;
        };
        /** Read a workflow */
        get: operations["getWorkflow"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/schedules": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List schedules */
        get: operations["listSchedules"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/schedules/{scheduleId}": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        /** Read a schedule */
        get: operations["getSchedule"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/schedules/{scheduleId}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Pause a schedule
         * @description It starts nothing until it is resumed, over restarts too. Harmless twice.
         */
        post: operations["pauseSchedule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/schedules/{scheduleId}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Let a schedule go on
         * @description From now on: what was due while it was paused gets no run. Harmless twice.
         */
        post: operations["resumeSchedule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/schedules/{scheduleId}/trigger": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Start a run of a schedule now
         * @description With the schedule's input, also while it is paused; its times do not change. Where a run of it is under way and its `overlap` is `skip`, 409.
         */
        post: operations["triggerSchedule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/schedules/{scheduleId}/backfill": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Start the runs of past times
         * @description A run for each time of the range, both ends included, that has none: asking twice starts nothing twice. At most 1,000 times. `dryRun` tells the times alone. Where the schedule's `overlap` is `queue` or `cancel` the runs go on one after the other.
         */
        post: operations["backfillSchedule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List awaited events
         * @description Which events live runs wait for, in the order of their ids; `runIds` holds the first 100 of each. Where there are more than a page has, `nextCursor` says how to go on.
         */
        get: operations["listEvents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/ready": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Does it take requests?
         * @description 503 until recovery is done, while draining, and while the disk does not answer. Shows what is degraded, and `check`: what the code makes of the live runs that the start found, once `serve` has begun to look.
         */
        get: operations["getReady"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Prometheus metrics */
        get: operations["getMetrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/system": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * The service at a glance
         * @description What `/metrics` counts, put together for people: runs, commits, snapshot, loop, streams, memory, and how fast each workflow's runs come and go. Rates are over the last minute, latencies over the last 512 runs of five minutes.
         */
        get: operations["getSystem"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/openapi.yaml": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This document */
        get: operations["getOpenApi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/docs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This document as a page */
        get: operations["getDocs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Who am I?
         * @description The caller's name and scopes, whatever credential it came with. A server that asks for no credentials says `anonymous`, with all scopes.
         */
        get: operations["getSession"];
        put?: never;
        /**
         * Log in with a key
         * @description Takes an API key or a JWT and sets a cookie that stands for it on requests of pages of this origin: `HttpOnly`, `SameSite=Strict`. It ends after 12 hours, at logout, and with what was logged in with.
         */
        post: operations["createSession"];
        /**
         * Log out
         * @description The cookie stands for nobody any more, and streams that it opened end.
         */
        delete: operations["deleteSession"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List API keys
         * @description Those that were made here; keys of the environment are not listed.
         */
        get: operations["listKeys"];
        put?: never;
        /**
         * Make an API key
         * @description The answer holds the key, this once. Without `scopes` it may do what the caller may, but `admin`; a scope that the caller has not is 403. `ttl` is a duration; without it the key is good until it is revoked.
         */
        post: operations["createKey"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/keys/{keyId}": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The key's id: the part of the key that is no secret.
                 * @example Ab3dEf9h
                 */
                keyId: string;
            };
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Revoke an API key
         * @description It is refused from now on; its sessions and streams end. A second time changes nothing.
         */
        delete: operations["revokeKey"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/ui": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * The dashboard
         * @description A page that talks this API. It asks for credentials by itself.
         */
        get: operations["getDashboard"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description A key that was made here; never the key itself. */
        ApiKey: {
            id: string;
            name: string;
            scopes: ("admin" | "control" | "notify" | "read" | "trigger")[];
            /** Format: date-time */
            createdAt: string;
            /** Format: date-time */
            expiresAt: string | null;
            /** Format: date-time */
            revokedAt: string | null;
            createdBy: string;
            revokedBy: string;
        };
        /** @description One act. `by` is the principal; empty for the program that embeds the engine. */
        AuditEntry: {
            lsn: number;
            at: string;
            /** @enum {string} */
            action: "bulk" | "cancel" | "fork" | "key-make" | "key-revoke" | "pause" | "purge" | "resume" | "retry" | "schedule-pause" | "schedule-resume";
            by: string;
            runId?: string;
            workflowId?: string;
            reason?: string;
            forced?: boolean;
            source?: unknown;
            bulk?: unknown;
            schedule?: string;
            keyId?: string;
            keyName?: string;
        };
        /** @description Acts, newest first. */
        AuditPage: {
            audit: components["schemas"]["AuditEntry"][];
            nextCursor: string | null;
        };
        /** @description An event that live runs wait for. `runIds` holds the first 100 of them. */
        AwaitedEvent: {
            eventId: string;
            runs: number;
            runIds: string[];
        };
        /** @description What a backfill starts, or would start. */
        Backfill: {
            runs: components["schemas"]["BackfillRun"][];
            existing: number;
            dryRun: boolean;
        };
        /** @description A range of time, both ends included. */
        BackfillRequest: {
            from: string;
            to: string;
            /** @default false */
            dryRun: boolean;
        };
        /** @description One time of a backfill, and the run that was started for it. */
        BackfillRun: {
            /** Format: date-time */
            scheduledAt: string;
            runId?: string;
        };
        /** @description Why one input of a batch started no run. */
        BatchFailure: {
            error: string;
            /** @enum {string} */
            code: "CONFLICT" | "EVENT_NOT_FOUND" | "FORBIDDEN" | "INTERNAL" | "INVALID_INPUT" | "METHOD_NOT_ALLOWED" | "NOT_FOUND" | "NOT_SUPPORTED" | "OUTCOME_UNKNOWN" | "PAYLOAD_TOO_LARGE" | "RATE_LIMITED" | "RUN_NOT_FOUND" | "UNAUTHORIZED" | "UNAVAILABLE" | "WORKFLOW_NOT_FOUND";
        };
        /** @description Which runs; what is left out leaves out nothing. */
        BulkFilter: {
            /** @default [] */
            status: string[];
            /** @default  */
            workflowId: string;
            /** @default  */
            tag: string;
            /** @default null */
            createdAfter: string | null;
            /** @default null */
            createdBefore: string | null;
            /** @default [] */
            ids: string[];
        };
        /** @description What one call of a bulk action did, or would do. */
        BulkReport: {
            /** @enum {string} */
            action: "cancel" | "pause" | "purge" | "resume" | "retry";
            dryRun: boolean;
            matched: number;
            runIds: string[];
            skipped: components["schemas"]["BulkSkipped"][];
            nextCursor: string | null;
        };
        /** @description One act on all runs that the filter takes. */
        BulkRequest: {
            /** @enum {string} */
            action: "cancel" | "pause" | "purge" | "resume" | "retry";
            filter: components["schemas"]["BulkFilter"];
            /** @default false */
            dryRun: boolean;
            /** @default false */
            force: boolean;
            /** @default null */
            limit: number | null;
            /** @default null */
            cursor: string | null;
            /** @default  */
            reason: string;
        };
        /** @description A run that was asked for and not acted on, and why. */
        BulkSkipped: {
            runId: string;
            error: string;
            code: string;
        };
        /** @description Why the run is cancelled, and whether its cleanup is waited for. */
        CancelRequest: {
            /** @default  */
            reason: string;
            /** @default false */
            force: boolean;
        };
        /** @description What the code makes of the live runs that a start found. */
        CodeCheck: {
            /** @enum {string} */
            status: "complete" | "failed" | "incomplete" | "running";
            at: string;
            runs: number;
            verdicts: {
                [key: string]: number;
            };
            divergingWorkflows: string[];
        };
        /** @description Encoding, writing and syncing a group commit, over the last minute. */
        CommitFigures: {
            perS: number;
            p50S: number | null;
            p99S: number | null;
            lastS: number;
            maxS: number;
        };
        /** @description `event: complete`: the run finished; the stream ends. */
        CompleteEvent: {
            /** @enum {string} */
            status: "completed";
            /** @description Any JSON value */
            result: unknown;
        };
        /** @description `event: emit`: what the workflow tells its watchers; `step` and `attempt` from a step. */
        EmitEvent: {
            name: string;
            /** @description Any JSON value */
            data: unknown;
            step?: string;
            attempt?: number;
        };
        /** @description Why a request was refused. Every response that is not 2xx has this shape. */
        Error: {
            error: string;
            /** @enum {string} */
            code: "CONFLICT" | "EVENT_NOT_FOUND" | "FORBIDDEN" | "INTERNAL" | "INVALID_INPUT" | "METHOD_NOT_ALLOWED" | "NOT_FOUND" | "NOT_SUPPORTED" | "OUTCOME_UNKNOWN" | "PAYLOAD_TOO_LARGE" | "RATE_LIMITED" | "RUN_NOT_FOUND" | "UNAUTHORIZED" | "UNAVAILABLE" | "WORKFLOW_NOT_FOUND";
        };
        /** @description `event: error`: the run failed or was cancelled; the stream ends. */
        ErrorEvent: {
            /** @enum {string} */
            status: "cancelled" | "failed";
            error: components["schemas"]["RunError"];
        };
        /** @description Which events live runs wait for, in the order of their ids. */
        EventList: {
            events: components["schemas"]["AwaitedEvent"][];
            nextCursor?: string;
        };
        /** @description `event: expired`: the credential is over; the stream ends. */
        ExpiredEvent: {
            /** @enum {string} */
            reason: "expired" | "revoked";
        };
        /**
         * @description From which step the fork goes on, with another input and pinned results where given.
         *
         *         A step is named by its key, or by its name where its first occurrence is meant.
         */
        ForkRequest: {
            fromStep: string;
            /** @description Any JSON value */
            input?: unknown;
            /** @default {} */
            results: {
                [key: string]: unknown;
            };
            /** @default  */
            reason: string;
        };
        /** @description The process serves. */
        Health: {
            /** @enum {string} */
            status: "ok";
            /** Format: date-time */
            timestamp: string;
        };
        /** @description A thread whose sync step timed out, or was given up, and goes on: it holds its place. */
        HeldThread: {
            runId: string;
            workflowId: string;
            key: string;
            attempt: number;
            since: string;
        };
        /** @description The journal on disk. */
        JournalFigures: {
            storeId: string;
            durableLsn: number;
            queuedBytes: number;
            segments: number;
            segmentBytes: number;
            bytesWritten: number;
            bytesPerS: number;
            roomBytes: number;
            readOnly: boolean;
            hangsS: number;
            commits: components["schemas"]["CommitFigures"];
        };
        /** @description Any JSON value; integers of at most 64 bits, at most 64 levels deep. */
        JsonValue: unknown;
        /** @description The keys of `keys.json`, the revoked too, oldest first. */
        KeyList: {
            keys: components["schemas"]["ApiKey"][];
        };
        /** @description A key to be made. Without `scopes`: all that the caller has but `admin`. */
        KeyRequest: {
            name: string;
            scopes?: ("admin" | "control" | "notify" | "read" | "trigger")[];
            /** @default null */
            ttl: number | string | null;
        };
        /** @description Where a fork came from. */
        Lineage: {
            runId: string;
            fromStep: string;
            reason?: string;
        };
        /** @description An API key or a JWT. */
        LoginRequest: {
            key: string;
        };
        /** @description How long the event loop took to answer. */
        LoopFigures: {
            lagS: number;
            lagMaxS: number;
            blockedTotal: number;
            blockedMaxS: number;
        };
        /** @description A new key, this once: only its hash is kept. */
        MadeKey: {
            id: string;
            name: string;
            scopes: ("admin" | "control" | "notify" | "read" | "trigger")[];
            /** Format: date-time */
            createdAt: string;
            /** Format: date-time */
            expiresAt: string | null;
            /** Format: date-time */
            revokedAt: string | null;
            createdBy: string;
            revokedBy: string;
            key: string;
        };
        /** @description The process. */
        MemoryFigures: {
            rssBytes: number | null;
            rssMaxBytes: number | null;
        };
        /** @description An event that was sent and reached nobody, or was refused. */
        NearMiss: {
            eventId: string;
            times: number;
            /** Format: date-time */
            lastAt: string;
            refused?: string;
        };
        /** @description A step that was not undone, and why. */
        NotUndone: {
            name: string;
            key: string;
            error: components["schemas"]["RunError"];
        };
        /** @description One of several processes on a database, as it was when it was last heard of. */
        ProcessFigures: {
            id: string;
            role: string;
            state: string;
            version: string;
            host: string;
            pid: number;
            /** Format: date-time */
            startedAt: string;
            /** Format: date-time */
            seenAt: string;
            claimsHeld: number;
            claimsLost: number;
            runsTakenOver: number;
            runsActive: number;
            stepsRunning: number;
            streams: number;
            commitsPerS: number;
            commitMaxS: number;
            rssBytes: number | null;
        };
        /** @description `event: progress`: how far the workflow is. */
        ProgressEvent: {
            done: number;
            total: number | null;
            message: string | null;
        };
        /** @description Where a pending run stands: it begins as the `position`-th of those that want the same. */
        QueuePlace: {
            position: number;
            ahead: number;
            limit: string;
            key?: unknown;
            /** Format: date-time */
            freeAt?: string;
            heldBy?: string[];
        };
        /** @description Requests are served; what is degraded all the same. */
        Readiness: {
            /** @enum {string} */
            status: "read-only" | "ready";
            /** Format: date-time */
            timestamp: string;
            degraded: Record<string, never>;
            check?: components["schemas"]["CodeCheck"];
        };
        /** @description Why it is done: kept with the run, with who did it and when. */
        ReasonRequest: {
            /** @default  */
            reason: string;
        };
        /** @description One run. Rows of a list have no `steps`. */
        Run: {
            id: string;
            workflowId: string;
            /** @enum {string} */
            status: "cancelled" | "completed" | "failed" | "pending" | "running";
            /** @description Any JSON value */
            input: unknown;
            steps?: components["schemas"]["Step"][];
            /** Format: date-time */
            createdAt: string;
            /** Format: date-time */
            updatedAt: string;
            /** @enum {string} */
            state?: "active" | "cancelled" | "cancelling" | "completed" | "failed" | "missing-workflow" | "parked" | "paused" | "quarantined" | "queued" | "retrying" | "sleeping" | "waiting";
            tags?: string[];
            /** @description Any JSON value */
            result?: unknown;
            error?: components["schemas"]["RunError"];
            parentRunId?: string;
            lineage?: components["schemas"]["Lineage"];
            parent?: components["schemas"]["RunParent"];
            children?: components["schemas"]["RunChild"][];
            /** Format: date-time */
            dueAt?: string;
            queue?: components["schemas"]["QueuePlace"];
            /** Format: date-time */
            deadlineAt?: string;
            scheduleId?: string;
            /** Format: date-time */
            scheduledAt?: string;
            restarts?: number;
            reason?: string;
        };
        /** @description What was done to a run. */
        RunAudit: {
            audit: components["schemas"]["AuditEntry"][];
        };
        /** @description A child of a run: who it is and which call made it; `awaited` is false where it runs free. */
        RunChild: {
            runId: string;
            workflowId: string;
            key: string;
            /** @default true */
            awaited: boolean;
        };
        /** @description How many runs have each status. */
        RunCounts: {
            pending: number;
            running: number;
            completed: number;
            failed: number;
            cancelled: number;
        };
        /** @description Why a run or a step failed. */
        RunError: {
            type: string;
            message: string;
            step?: string;
            attempts?: number;
            /** @description Any JSON value */
            data?: unknown;
            compensation?: components["schemas"]["NotUndone"][];
            compensationMore?: number;
        };
        /** @description All runs there are. */
        RunFigures: {
            live: number;
            active: number;
            queued: number;
            quarantined: number;
            known: number;
            finished: number;
            liveBytes: number;
            finishedBytes: number;
            parkedBytes: number;
            startedPerS: number;
            endedPerS: number;
            retentionHours: number;
        };
        /** @description One page of runs, newest first. */
        RunPage: {
            runs: components["schemas"]["Run"][];
            nextCursor: string | null;
            streamCursor: string;
            counts?: components["schemas"]["RunCounts"];
        };
        /** @description Whose child a run is; `key` is that of the call that awaits it. */
        RunParent: {
            runId: string;
            key?: string;
        };
        /** @description A schedule, as `GET /schedules` gives it. */
        Schedule: {
            id: string;
            workflowId: string;
            spec: string;
            /** @enum {string} */
            state: "active" | "paused";
            catchUp: string;
            overlap: string;
            /** Format: date-time */
            nextAt?: string;
            next?: string[];
            /** Format: date-time */
            lastAt?: string;
            lastRunId?: string;
            liveRunIds: string[];
            fired: number;
            skipped: number;
        };
        /** @description What starts by itself. */
        ScheduleList: {
            schedules: components["schemas"]["Schedule"][];
        };
        /** @description Who calls, and what they may do. */
        Session: {
            name: string;
            /** @enum {string} */
            kind: "anonymous" | "jwt" | "key" | "user";
            scopes: ("admin" | "control" | "notify" | "read" | "trigger")[];
            session: boolean;
            /** Format: date-time */
            expiresAt: string | null;
        };
        /** @description The newest snapshot. */
        SnapshotFigures: {
            lsn: number;
            bytes: number;
            /** Format: date-time */
            createdAt: string | null;
            ageS: number;
            journalBytesSince: number;
            failures: number;
        };
        /** @description `event: status`: the run's status changed, or something began. */
        StatusEvent: {
            /** @enum {string} */
            status: "cancelled" | "completed" | "failed" | "pending" | "running";
            stepName?: string;
            key?: string;
            kind?: string;
            attempt?: number;
            /** Format: date-time */
            dueAt?: string;
            eventId?: string;
            childRunId?: string;
            restarts?: number;
            state?: string;
            retry?: boolean;
        };
        /** @description What a workflow asked for by name. It has no `result` while it has none. */
        Step: {
            name: string;
            /** @enum {string} */
            status: "completed" | "failed" | "pending";
            key: string;
            kind: string;
            /** @description Any JSON value */
            result?: unknown;
            error?: components["schemas"]["RunError"];
            attempts?: number;
            /** Format: date-time */
            startedAt?: string;
            /** Format: date-time */
            completedAt?: string;
            /** Format: date-time */
            dueAt?: string;
            eventId?: string;
            childRunId?: string;
            cancelled?: boolean;
        };
        /** @description `event: step`: a step completed or failed. */
        StepEvent: {
            name: string;
            /** @enum {string} */
            status: "completed" | "failed";
            /** @description Any JSON value */
            result?: unknown;
            error?: components["schemas"]["RunError"];
            key: string;
            kind: string;
        };
        /** @description One server-sent event. `data` is the JSON of the schema that `event` names. */
        StreamEvent: {
            /** @description Send it as `Last-Event-ID` to go on after it. */
            id?: string;
            /** @enum {string} */
            event: "status" | "step" | "complete" | "error" | "emit" | "progress" | "resync" | "expired";
            data: string;
        };
        /** @description Open streams, and what `/stream` may still be asked for. */
        StreamFigures: {
            ofRuns: number;
            ofAll: number;
            keptEvents: number;
            keptBytes: number;
            keptSince: string;
        };
        /** @description It is done, and durable. */
        Success: {
            /** @enum {boolean} */
            success: true;
        };
        /** @description The service at one moment. */
        System: {
            state: string;
            /** Format: date-time */
            timestamp: string;
            uptimeS: number;
            recoveryS: number;
            version: string;
            runs: components["schemas"]["RunFigures"];
            journal: components["schemas"]["JournalFigures"];
            snapshot: components["schemas"]["SnapshotFigures"];
            loop: components["schemas"]["LoopFigures"] | null;
            streams: components["schemas"]["StreamFigures"];
            memory: components["schemas"]["MemoryFigures"];
            timers: number;
            eventWaiters: number;
            zombies: number;
            missingWorkflows: string[];
            workflows: components["schemas"]["WorkflowPace"][];
            processes?: components["schemas"]["ProcessFigures"][];
        };
        /** @description A read-only token, and when it ends. */
        TokenGrant: {
            publicAccessToken: string;
            /** Format: date-time */
            expiresAt: string;
        };
        /** @description How long the token is to be good: seconds, or `"15m"`, `"2h"`, `"7d"`; to 30 days. */
        TokenRequest: {
            /** @default null */
            ttl: number | string | null;
        };
        /** @description The new run, durable, and a token with which a browser may watch it. */
        TriggerResult: {
            runId: string;
            publicAccessToken: string;
        };
        /** @description One thing that the run waits for. */
        WaitingFor: {
            /** @enum {string} */
            kind: "cancelling" | "child" | "code" | "delay" | "disk" | "divergence" | "event" | "missing-workflow" | "notify" | "pause" | "quarantine" | "queue" | "retry" | "sleep" | "step" | "thread" | "wake";
            name: string;
            key?: string;
            eventId?: string;
            /** Format: date-time */
            dueAt?: string;
            since?: string;
            attempts?: number;
            error?: unknown;
            nearMisses?: components["schemas"]["NearMiss"][];
            runId?: string;
            position?: number;
            ahead?: number;
            limit?: string;
            heldBy?: string[];
            zombies?: number;
            heldThreads?: components["schemas"]["HeldThread"][];
            by?: string;
            reason?: string;
            code?: string;
            circle?: string[];
            names?: string[];
            /** @default  */
            says: string;
        };
        /** @description What `GET /runs/{runId}/why` answers. */
        WhyView: {
            summary: string;
            waitingFor: components["schemas"]["WaitingFor"][];
            more?: number;
        };
        /** @description For which runs the token is to be good, by `tag` or by `runIds`, and for how long. */
        WideTokenRequest: {
            /** @default null */
            tag: string | null;
            /** @default null */
            runIds: string[] | null;
            /** @default null */
            ttl: number | string | null;
        };
        /** @description A workflow. Its schemas are JSON Schema 2020-12. */
        Workflow: {
            id: string;
            description: string | null;
            inputSchema: Record<string, never>;
            outputSchema: Record<string, never>;
            /** @default [] */
            events: string[];
            /** @default null */
            schedule: string | null;
            pace?: components["schemas"]["WorkflowPace"];
        };
        /** @description What can be triggered. */
        WorkflowList: {
            workflows: components["schemas"]["Workflow"][];
        };
        /** @description How fast a workflow's runs come and go, over the last minutes. */
        WorkflowPace: {
            workflowId: string;
            live: number;
            queued: number;
            startedPerS: number;
            completedPerS: number;
            failedPerS: number;
            cancelledPerS: number;
            windowS: number;
            latencyP50S: number | null;
            latencyP99S: number | null;
            sampled: number;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    triggerWorkflow: {
        parameters: {
            query?: {
                /**
                 * @description Let the run begin so much later: seconds, or `500ms`, `30s`, `15m`, `2h`, `7d`, `1h30m`. Until then its status is `pending`.
                 * @example 15m
                 */
                delay?: string;
            };
            header?: {
                /**
                 * @description The same key, workflow and caller give the same run for 24 hours, across restarts; another input under the key is 409.
                 * @example order-1042
                 */
                "Idempotency-Key"?: string;
                /**
                 * @description The caller's W3C trace context: the run joins that trace, where runs are traced. What is no trace context is ignored, as the standard says.
                 * @example 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
                 */
                traceparent?: string;
            };
            path: {
                /**
                 * @description The workflow's id.
                 * @example welcome-user
                 */
                workflowId: string;
            };
            cookie?: never;
        };
        /** @description The workflow's input */
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "userId": "user_123",
                 *       "email": "user@example.com"
                 *     }
                 */
                "application/json": components["schemas"]["JsonValue"];
            };
        };
        responses: {
            /** @description The run is started */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "runId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "publicAccessToken": "pat_AQFd0k…"
                     *     }
                     */
                    "application/json": components["schemas"]["TriggerResult"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Workflow not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Workflow not found",
                     *       "code": "WORKFLOW_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Too many requests */
            429: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Too many requests",
                     *       "code": "RATE_LIMITED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    bulkRuns: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description What, and to which runs */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "action": "cancel",
                 *       "filter": {
                 *         "workflowId": "welcome-user",
                 *         "status": [
                 *           "running"
                 *         ]
                 *       },
                 *       "dryRun": true
                 *     }
                 */
                "application/json": components["schemas"]["BulkRequest"];
            };
        };
        responses: {
            /** @description What was done, or would be */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "action": "cancel",
                     *       "dryRun": true,
                     *       "matched": 1,
                     *       "runIds": [
                     *         "run_4fXo2bKq9TzW1mYc7RdE5h"
                     *       ],
                     *       "skipped": [],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["BulkReport"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getRun: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The run */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "workflowId": "welcome-user",
                     *       "status": "running",
                     *       "input": {
                     *         "userId": "user_123",
                     *         "email": "user@example.com"
                     *       },
                     *       "steps": [
                     *         {
                     *           "name": "send-welcome",
                     *           "status": "completed",
                     *           "key": "send-welcome#1",
                     *           "kind": "step",
                     *           "result": {
                     *             "sent": true
                     *           },
                     *           "attempts": 1,
                     *           "startedAt": "2024-01-15T10:30:00.012Z",
                     *           "completedAt": "2024-01-15T10:30:00.240Z"
                     *         },
                     *         {
                     *           "name": "pause",
                     *           "status": "pending",
                     *           "key": "pause#1",
                     *           "kind": "sleep",
                     *           "startedAt": "2024-01-15T10:30:00.241Z",
                     *           "dueAt": "2024-01-18T10:30:00.241Z"
                     *         }
                     *       ],
                     *       "createdAt": "2024-01-15T10:30:00.000Z",
                     *       "updatedAt": "2024-01-15T10:30:00.241Z",
                     *       "state": "sleeping"
                     *     }
                     */
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    purgeRun: {
        parameters: {
            query?: {
                /**
                 * @description Why: kept in the audit.
                 * @example asked for by its owner
                 */
                reason?: string;
            };
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is gone */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    streamRun: {
        parameters: {
            query?: {
                /**
                 * @description The same, where a header cannot be set. The header comes first.
                 * @example 12
                 */
                lastEventId?: string;
            };
            header?: {
                /**
                 * @description The last event's id; browsers send it when they reconnect.
                 * @example 12
                 */
                "Last-Event-ID"?: string;
            };
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The events */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["StreamEvent"];
                };
            };
            /** @description The run has ended and the client has its last event */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Too many requests */
            429: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Too many requests",
                     *       "code": "RATE_LIMITED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    streamRuns: {
        parameters: {
            query?: {
                /**
                 * @description Only runs of this workflow.
                 * @example welcome-user
                 */
                workflowId?: string;
                /**
                 * @description Only events that leave their run in one of these statuses.
                 * @example [
                 *       "completed",
                 *       "failed"
                 *     ]
                 */
                status?: ("pending" | "running" | "completed" | "failed" | "cancelled")[];
                /**
                 * @description Only runs that bear this tag.
                 * @example customer-7
                 */
                tag?: string;
                /**
                 * @description Only these runs.
                 * @example [
                 *       "run_4fXo2bKq9TzW1mYc7RdE5h"
                 *     ]
                 */
                runId?: string[];
                /**
                 * @description The same, or a `streamCursor`. The header comes first.
                 * @example 6f1d0c52a9b34e70-1042
                 */
                lastEventId?: string;
            };
            header?: {
                /**
                 * @description The last event's id; browsers send it when they reconnect.
                 * @example 6f1d0c52a9b34e70-1042
                 */
                "Last-Event-ID"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The events */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["StreamEvent"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Too many requests */
            429: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Too many requests",
                     *       "code": "RATE_LIMITED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    notifyEvent: {
        parameters: {
            query?: {
                /**
                 * @description Deliver it to this one live run, and keep it there until it waits.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId?: string;
            };
            header?: never;
            path: {
                /**
                 * @description The event's id: the rest of the path, percent-encoded.
                 * @example paid-1042
                 */
                eventId: string;
            };
            cookie?: never;
        };
        /** @description The event's payload */
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "amount": 4200,
                 *       "currency": "EUR"
                 *     }
                 */
                "application/json": components["schemas"]["JsonValue"];
            };
        };
        responses: {
            /** @description It is delivered */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found; Event not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Too many requests */
            429: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Too many requests",
                     *       "code": "RATE_LIMITED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getHealth: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It serves */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "status": "ok",
                     *       "timestamp": "2024-01-15T10:30:00Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    triggerWorkflowBatch: {
        parameters: {
            query?: {
                /**
                 * @description Let the run begin so much later: seconds, or `500ms`, `30s`, `15m`, `2h`, `7d`, `1h30m`. Until then its status is `pending`.
                 * @example 15m
                 */
                delay?: string;
            };
            header?: {
                /**
                 * @description The caller's W3C trace context: the run joins that trace, where runs are traced. What is no trace context is ignored, as the standard says.
                 * @example 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
                 */
                traceparent?: string;
            };
            path: {
                /**
                 * @description The workflow's id.
                 * @example welcome-user
                 */
                workflowId: string;
            };
            cookie?: never;
        };
        /** @description The inputs */
        requestBody: {
            content: {
                /**
                 * @example [
                 *       {
                 *         "userId": "user_1"
                 *       },
                 *       {
                 *         "userId": "user_2"
                 *       }
                 *     ]
                 */
                "application/json": components["schemas"]["JsonValue"][];
            };
        };
        responses: {
            /** @description A run or an error for each input, in order */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "runId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *         "publicAccessToken": "pat_AQFd0k…"
                     *       },
                     *       {
                     *         "error": "input.userId: Expected `str`, got `int`",
                     *         "code": "INVALID_INPUT"
                     *       }
                     *     ]
                     */
                    "application/json": (components["schemas"]["TriggerResult"] | components["schemas"]["BatchFailure"])[];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Workflow not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Workflow not found",
                     *       "code": "WORKFLOW_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Too many requests */
            429: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Too many requests",
                     *       "code": "RATE_LIMITED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    listRuns: {
        parameters: {
            query?: {
                /**
                 * @description Only runs with one of these statuses.
                 * @example [
                 *       "running"
                 *     ]
                 */
                status?: ("pending" | "running" | "completed" | "failed" | "cancelled")[];
                /**
                 * @description Only runs of this workflow.
                 * @example welcome-user
                 */
                workflowId?: string;
                /**
                 * @description Only runs that bear this tag.
                 * @example customer-7
                 */
                tag?: string;
                /**
                 * @description Only runs created after this moment.
                 * @example 2024-01-15T00:00:00Z
                 */
                createdAfter?: string;
                /**
                 * @description Only runs created before this moment.
                 * @example 2024-01-16T00:00:00Z
                 */
                createdBefore?: string;
                /**
                 * @description How many runs; a page has at most 200.
                 * @example 50
                 */
                limit?: number;
                /** @description The `nextCursor` of the page before. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of runs */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "runs": [
                     *         {
                     *           "id": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *           "workflowId": "welcome-user",
                     *           "status": "running",
                     *           "input": {
                     *             "userId": "user_123",
                     *             "email": "user@example.com"
                     *           },
                     *           "createdAt": "2024-01-15T10:30:00.000Z",
                     *           "updatedAt": "2024-01-15T10:30:00.241Z",
                     *           "state": "sleeping"
                     *         }
                     *       ],
                     *       "nextCursor": null,
                     *       "streamCursor": "1-42",
                     *       "counts": {
                     *         "pending": 0,
                     *         "running": 12,
                     *         "completed": 5012,
                     *         "failed": 3,
                     *         "cancelled": 1
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["RunPage"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    explainRun: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What it waits for */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "summary": "It waits for the event 'paid-42' since 3h 00m; nobody has sent it.",
                     *       "waitingFor": [
                     *         {
                     *           "kind": "event",
                     *           "name": "paid",
                     *           "eventId": "paid-42",
                     *           "says": "…"
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["WhyView"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getStep: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
                /**
                 * @description The step's key: the rest of the path, percent-encoded.
                 * @example charge#1
                 */
                stepKey: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The step */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "name": "charge",
                     *       "status": "completed",
                     *       "key": "charge#1",
                     *       "kind": "step",
                     *       "result": {
                     *         "charged": true
                     *       },
                     *       "attempts": 1,
                     *       "startedAt": "2024-01-15T10:30:00.000Z",
                     *       "completedAt": "2024-01-15T10:30:00.120Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Step"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found; Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getRunAudit: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The acts */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "audit": [
                     *         {
                     *           "lsn": 42,
                     *           "at": "2024-01-15T10:30:00.000Z",
                     *           "action": "cancel",
                     *           "by": "key:ops",
                     *           "runId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *           "workflowId": "welcome-user",
                     *           "reason": "ordered twice"
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["RunAudit"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    listAudit: {
        parameters: {
            query?: {
                /**
                 * @description Only acts on this run, which may be purged.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId?: string;
                /**
                 * @description How many acts.
                 * @example 50
                 */
                limit?: number;
                /** @description The `nextCursor` of the page before. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of acts */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "audit": [
                     *         {
                     *           "lsn": 42,
                     *           "at": "2024-01-15T10:30:00.000Z",
                     *           "action": "cancel",
                     *           "by": "key:ops",
                     *           "runId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *           "workflowId": "welcome-user",
                     *           "reason": "ordered twice"
                     *         }
                     *       ],
                     *       "nextCursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["AuditPage"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    cancelRun: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /** @description Why, and how */
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "reason": "ordered twice"
                 *     }
                 */
                "application/json": components["schemas"]["CancelRequest"];
            };
        };
        responses: {
            /** @description The run */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "workflowId": "welcome-user",
                     *       "status": "running",
                     *       "input": {
                     *         "userId": "user_123",
                     *         "email": "user@example.com"
                     *       },
                     *       "steps": [
                     *         {
                     *           "name": "send-welcome",
                     *           "status": "completed",
                     *           "key": "send-welcome#1",
                     *           "kind": "step",
                     *           "result": {
                     *             "sent": true
                     *           },
                     *           "attempts": 1,
                     *           "startedAt": "2024-01-15T10:30:00.012Z",
                     *           "completedAt": "2024-01-15T10:30:00.240Z"
                     *         },
                     *         {
                     *           "name": "pause",
                     *           "status": "pending",
                     *           "key": "pause#1",
                     *           "kind": "sleep",
                     *           "startedAt": "2024-01-15T10:30:00.241Z",
                     *           "dueAt": "2024-01-18T10:30:00.241Z"
                     *         }
                     *       ],
                     *       "createdAt": "2024-01-15T10:30:00.000Z",
                     *       "updatedAt": "2024-01-15T10:30:00.241Z",
                     *       "state": "sleeping"
                     *     }
                     */
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    pauseRun: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /** @description Why */
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "reason": "the bank is down"
                 *     }
                 */
                "application/json": components["schemas"]["ReasonRequest"];
            };
        };
        responses: {
            /** @description The run */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "workflowId": "welcome-user",
                     *       "status": "running",
                     *       "input": {
                     *         "userId": "user_123",
                     *         "email": "user@example.com"
                     *       },
                     *       "steps": [
                     *         {
                     *           "name": "send-welcome",
                     *           "status": "completed",
                     *           "key": "send-welcome#1",
                     *           "kind": "step",
                     *           "result": {
                     *             "sent": true
                     *           },
                     *           "attempts": 1,
                     *           "startedAt": "2024-01-15T10:30:00.012Z",
                     *           "completedAt": "2024-01-15T10:30:00.240Z"
                     *         },
                     *         {
                     *           "name": "pause",
                     *           "status": "pending",
                     *           "key": "pause#1",
                     *           "kind": "sleep",
                     *           "startedAt": "2024-01-15T10:30:00.241Z",
                     *           "dueAt": "2024-01-18T10:30:00.241Z"
                     *         }
                     *       ],
                     *       "createdAt": "2024-01-15T10:30:00.000Z",
                     *       "updatedAt": "2024-01-15T10:30:00.241Z",
                     *       "state": "sleeping"
                     *     }
                     */
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    resumeRun: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /** @description Why */
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "reason": "the bank is down"
                 *     }
                 */
                "application/json": components["schemas"]["ReasonRequest"];
            };
        };
        responses: {
            /** @description The run */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "workflowId": "welcome-user",
                     *       "status": "running",
                     *       "input": {
                     *         "userId": "user_123",
                     *         "email": "user@example.com"
                     *       },
                     *       "steps": [
                     *         {
                     *           "name": "send-welcome",
                     *           "status": "completed",
                     *           "key": "send-welcome#1",
                     *           "kind": "step",
                     *           "result": {
                     *             "sent": true
                     *           },
                     *           "attempts": 1,
                     *           "startedAt": "2024-01-15T10:30:00.012Z",
                     *           "completedAt": "2024-01-15T10:30:00.240Z"
                     *         },
                     *         {
                     *           "name": "pause",
                     *           "status": "pending",
                     *           "key": "pause#1",
                     *           "kind": "sleep",
                     *           "startedAt": "2024-01-15T10:30:00.241Z",
                     *           "dueAt": "2024-01-18T10:30:00.241Z"
                     *         }
                     *       ],
                     *       "createdAt": "2024-01-15T10:30:00.000Z",
                     *       "updatedAt": "2024-01-15T10:30:00.241Z",
                     *       "state": "sleeping"
                     *     }
                     */
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    retryRun: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /** @description Why */
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "reason": "the bank is down"
                 *     }
                 */
                "application/json": components["schemas"]["ReasonRequest"];
            };
        };
        responses: {
            /** @description The run */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "workflowId": "welcome-user",
                     *       "status": "running",
                     *       "input": {
                     *         "userId": "user_123",
                     *         "email": "user@example.com"
                     *       },
                     *       "steps": [
                     *         {
                     *           "name": "send-welcome",
                     *           "status": "completed",
                     *           "key": "send-welcome#1",
                     *           "kind": "step",
                     *           "result": {
                     *             "sent": true
                     *           },
                     *           "attempts": 1,
                     *           "startedAt": "2024-01-15T10:30:00.012Z",
                     *           "completedAt": "2024-01-15T10:30:00.240Z"
                     *         },
                     *         {
                     *           "name": "pause",
                     *           "status": "pending",
                     *           "key": "pause#1",
                     *           "kind": "sleep",
                     *           "startedAt": "2024-01-15T10:30:00.241Z",
                     *           "dueAt": "2024-01-18T10:30:00.241Z"
                     *         }
                     *       ],
                     *       "createdAt": "2024-01-15T10:30:00.000Z",
                     *       "updatedAt": "2024-01-15T10:30:00.241Z",
                     *       "state": "sleeping"
                     *     }
                     */
                    "application/json": components["schemas"]["Run"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    forkRun: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /** @description From where, and with what */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "fromStep": "charge",
                 *       "results": {
                 *         "reserve[sku-7]": {
                 *           "held": true
                 *         }
                 *       }
                 *     }
                 */
                "application/json": components["schemas"]["ForkRequest"];
            };
        };
        responses: {
            /** @description The fork, durable */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "runId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "publicAccessToken": "pat_AQFd0k…"
                     *     }
                     */
                    "application/json": components["schemas"]["TriggerResult"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found; Workflow not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    createRunToken: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        /** @description How long it is to be good */
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "ttl": "2h"
                 *     }
                 */
                "application/json": components["schemas"]["TokenRequest"];
            };
        };
        responses: {
            /** @description The token */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "publicAccessToken": "pat_AQFd0k…",
                     *       "expiresAt": "2024-01-15T12:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["TokenGrant"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    createToken: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description Which runs, and for how long */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "tag": "customer-7",
                 *       "ttl": "2h"
                 *     }
                 */
                "application/json": components["schemas"]["WideTokenRequest"];
            };
        };
        responses: {
            /** @description The token */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "publicAccessToken": "pat_AQNd0k…",
                     *       "expiresAt": "2024-01-15T12:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["TokenGrant"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    exportRun: {
        parameters: {
            query?: {
                /**
                 * @description Values under this name are masked too.
                 * @example [
                 *       "iban"
                 *     ]
                 */
                mask?: string[];
            };
            header?: never;
            path: {
                /**
                 * @description The run's id.
                 * @example run_4fXo2bKq9TzW1mYc7RdE5h
                 */
                runId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The file */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /** @example {"stepflow":"run","version":1,"run":"run_4fXo2bKq9TzW1mYc7RdE5h","workflow":"welcome-user","masked":0,"sha256":"…"} */
                    "application/x-ndjson": string;
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Run not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Run not found",
                     *       "code": "RUN_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Outcome unknown: ask again with the same Idempotency-Key; Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Outcome unknown: ask again with the same Idempotency-Key",
                     *       "code": "OUTCOME_UNKNOWN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    listWorkflows: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The workflows, by id */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "workflows": [
                     *         {
                     *           "id": "welcome-user",
                     *           "description": "Sends two mails, three days apart.",
                     *           "inputSchema": {
                     *             "type": "object",
                     *             "properties": {
                     *               "userId": {
                     *                 "type": "string"
                     *               },
                     *               "email": {
                     *                 "type": "string"
                     *               }
                     *             },
                     *             "required": [
                     *               "userId",
                     *               "email"
                     *             ]
                     *           },
                     *           "outputSchema": {},
                     *           "events": [],
                     *           "schedule": null
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["WorkflowList"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getWorkflow: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The workflow's id.
                 * @example welcome-user
                 */
                workflowId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The workflow */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "welcome-user",
                     *       "description": "Sends two mails, three days apart.",
                     *       "inputSchema": {
                     *         "type": "object",
                     *         "properties": {
                     *           "userId": {
                     *             "type": "string"
                     *           },
                     *           "email": {
                     *             "type": "string"
                     *           }
                     *         },
                     *         "required": [
                     *           "userId",
                     *           "email"
                     *         ]
                     *       },
                     *       "outputSchema": {},
                     *       "events": [],
                     *       "schedule": null,
                     *       "pace": {
                     *         "workflowId": "welcome-user",
                     *         "live": 12,
                     *         "queued": 0,
                     *         "startedPerS": 3.2,
                     *         "completedPerS": 3.1,
                     *         "failedPerS": 0.05,
                     *         "cancelledPerS": 0,
                     *         "windowS": 60,
                     *         "latencyP50S": 0.012,
                     *         "latencyP99S": 0.31,
                     *         "sampled": 186
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["Workflow"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Workflow not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Workflow not found",
                     *       "code": "WORKFLOW_NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    listSchedules: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The schedules of the registered workflows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "schedules": [
                     *         {
                     *           "id": "nightly-report",
                     *           "workflowId": "nightly-report",
                     *           "spec": "0 2 * * * Europe/Berlin",
                     *           "state": "active",
                     *           "catchUp": "one",
                     *           "overlap": "skip",
                     *           "nextAt": "2024-01-16T01:00:00.000Z",
                     *           "lastAt": "2024-01-15T01:00:00.000Z",
                     *           "lastRunId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *           "liveRunIds": [],
                     *           "fired": 14,
                     *           "skipped": 0
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["ScheduleList"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getSchedule: {
        parameters: {
            query?: {
                /**
                 * @description Tell so many of its times to come, in `next`.
                 * @example 5
                 */
                next?: number;
            };
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The schedule */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "nightly-report",
                     *       "workflowId": "nightly-report",
                     *       "spec": "0 2 * * * Europe/Berlin",
                     *       "state": "active",
                     *       "catchUp": "one",
                     *       "overlap": "skip",
                     *       "nextAt": "2024-01-16T01:00:00.000Z",
                     *       "lastAt": "2024-01-15T01:00:00.000Z",
                     *       "lastRunId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "liveRunIds": [],
                     *       "fired": 14,
                     *       "skipped": 0
                     *     }
                     */
                    "application/json": components["schemas"]["Schedule"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Not found",
                     *       "code": "NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    pauseSchedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The schedule */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "nightly-report",
                     *       "workflowId": "nightly-report",
                     *       "spec": "0 2 * * * Europe/Berlin",
                     *       "state": "active",
                     *       "catchUp": "one",
                     *       "overlap": "skip",
                     *       "nextAt": "2024-01-16T01:00:00.000Z",
                     *       "lastAt": "2024-01-15T01:00:00.000Z",
                     *       "lastRunId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "liveRunIds": [],
                     *       "fired": 14,
                     *       "skipped": 0
                     *     }
                     */
                    "application/json": components["schemas"]["Schedule"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Not found",
                     *       "code": "NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    resumeSchedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The schedule */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "nightly-report",
                     *       "workflowId": "nightly-report",
                     *       "spec": "0 2 * * * Europe/Berlin",
                     *       "state": "active",
                     *       "catchUp": "one",
                     *       "overlap": "skip",
                     *       "nextAt": "2024-01-16T01:00:00.000Z",
                     *       "lastAt": "2024-01-15T01:00:00.000Z",
                     *       "lastRunId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "liveRunIds": [],
                     *       "fired": 14,
                     *       "skipped": 0
                     *     }
                     */
                    "application/json": components["schemas"]["Schedule"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Not found",
                     *       "code": "NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    triggerSchedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The run is started */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "runId": "run_4fXo2bKq9TzW1mYc7RdE5h",
                     *       "publicAccessToken": "pat_AQFd0k…"
                     *     }
                     */
                    "application/json": components["schemas"]["TriggerResult"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Not found",
                     *       "code": "NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    backfillSchedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The schedule's id.
                 * @example nightly-report
                 */
                scheduleId: string;
            };
            cookie?: never;
        };
        /** @description The range */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "from": "2024-01-01T00:00:00Z",
                 *       "to": "2024-01-07T23:59:59Z",
                 *       "dryRun": true
                 *     }
                 */
                "application/json": components["schemas"]["BackfillRequest"];
            };
        };
        responses: {
            /** @description What was started, or would be */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "runs": [
                     *         {
                     *           "scheduledAt": "2024-01-01T01:00:00.000Z"
                     *         }
                     *       ],
                     *       "existing": 6,
                     *       "dryRun": true
                     *     }
                     */
                    "application/json": components["schemas"]["Backfill"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Not found",
                     *       "code": "NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable; Outcome unknown: ask again with the same Idempotency-Key */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    listEvents: {
        parameters: {
            query?: {
                /**
                 * @description How many events; a page has at most 1000.
                 * @example 50
                 */
                limit?: number;
                /** @description The `nextCursor` of the page before. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The events */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "events": [
                     *         {
                     *           "eventId": "paid-1042",
                     *           "runs": 1,
                     *           "runIds": [
                     *             "run_4fXo2bKq9TzW1mYc7RdE5h"
                     *           ]
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["EventList"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getReady: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It does */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "status": "ready",
                     *       "timestamp": "2024-01-15T10:30:00.000Z",
                     *       "degraded": {
                     *         "missingWorkflows": [],
                     *         "quarantinedRuns": 0,
                     *         "stepThreads": {
                     *           "limit": 32,
                     *           "waiting": 0,
                     *           "zombies": 0,
                     *           "zombiesSince": null
                     *         }
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["Readiness"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getMetrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Prometheus text format */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example # TYPE stepflow_runs_live gauge
                     *     stepflow_runs_live 12.0
                     */
                    "text/plain": string;
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getSystem: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The service */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "state": "ready",
                     *       "timestamp": "2024-01-15T10:30:00.000Z",
                     *       "uptimeS": 3600,
                     *       "recoveryS": 0.2,
                     *       "version": "0.1.0",
                     *       "runs": {
                     *         "live": 12,
                     *         "active": 2,
                     *         "queued": 0,
                     *         "quarantined": 0,
                     *         "known": 5012,
                     *         "finished": 5000,
                     *         "liveBytes": 12000,
                     *         "finishedBytes": 4000000,
                     *         "parkedBytes": 3900000,
                     *         "startedPerS": 3.2,
                     *         "endedPerS": 3.15,
                     *         "retentionHours": 168
                     *       },
                     *       "journal": {
                     *         "storeId": "6f1d0c52a9b34e70",
                     *         "durableLsn": 40213,
                     *         "queuedBytes": 0,
                     *         "segments": 3,
                     *         "segmentBytes": 7340032,
                     *         "bytesWritten": 6100000,
                     *         "bytesPerS": 5200,
                     *         "roomBytes": 80000000000,
                     *         "readOnly": false,
                     *         "hangsS": 0,
                     *         "commits": {
                     *           "perS": 12.5,
                     *           "p50S": 0.0005,
                     *           "p99S": 0.0025,
                     *           "lastS": 0.0003,
                     *           "maxS": 0.02
                     *         }
                     *       },
                     *       "snapshot": {
                     *         "lsn": 30001,
                     *         "bytes": 2000000,
                     *         "createdAt": "2024-01-15T10:20:00.000Z",
                     *         "ageS": 600,
                     *         "journalBytesSince": 3000000,
                     *         "failures": 0
                     *       },
                     *       "loop": {
                     *         "lagS": 0.0002,
                     *         "lagMaxS": 0.004,
                     *         "blockedTotal": 0,
                     *         "blockedMaxS": 0
                     *       },
                     *       "streams": {
                     *         "ofRuns": 3,
                     *         "ofAll": 1,
                     *         "keptEvents": 31000,
                     *         "keptBytes": 8000000,
                     *         "keptSince": "6f1d0c52a9b34e70-9213"
                     *       },
                     *       "memory": {
                     *         "rssBytes": 61000000,
                     *         "rssMaxBytes": 64000000
                     *       },
                     *       "timers": 4,
                     *       "eventWaiters": 6,
                     *       "zombies": 0,
                     *       "missingWorkflows": [],
                     *       "workflows": [
                     *         {
                     *           "workflowId": "welcome-user",
                     *           "live": 12,
                     *           "queued": 0,
                     *           "startedPerS": 3.2,
                     *           "completedPerS": 3.1,
                     *           "failedPerS": 0.05,
                     *           "cancelledPerS": 0,
                     *           "windowS": 60,
                     *           "latencyP50S": 0.012,
                     *           "latencyP99S": 0.31,
                     *           "sampled": 186
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["System"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getOpenApi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OpenAPI 3.1 */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/yaml": string;
                };
            };
        };
    };
    getDocs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page that works offline */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
        };
    };
    getSession: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description You */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "name": "ops",
                     *       "kind": "key",
                     *       "scopes": [
                     *         "trigger",
                     *         "read",
                     *         "notify",
                     *         "control"
                     *       ],
                     *       "session": true,
                     *       "expiresAt": "2024-01-15T22:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    createSession: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The key */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "key": "sf_Ab3dEf9h_…"
                 *     }
                 */
                "application/json": components["schemas"]["LoginRequest"];
            };
        };
        responses: {
            /** @description You are in */
            200: {
                headers: {
                    /** @example stepflow_session=ses_…; HttpOnly; SameSite=Strict */
                    "Set-Cookie"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "name": "ops",
                     *       "kind": "key",
                     *       "scopes": [
                     *         "trigger",
                     *         "read",
                     *         "notify",
                     *         "control"
                     *       ],
                     *       "session": true,
                     *       "expiresAt": "2024-01-15T22:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Too many requests */
            429: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Too many requests",
                     *       "code": "RATE_LIMITED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    deleteSession: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description You are out */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "success": true
                     *     }
                     */
                    "application/json": components["schemas"]["Success"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    listKeys: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The keys, oldest first */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "keys": [
                     *         {
                     *           "id": "Ab3dEf9h",
                     *           "name": "deploy",
                     *           "scopes": [
                     *             "trigger",
                     *             "read"
                     *           ],
                     *           "createdAt": "2024-01-15T10:30:00.000Z",
                     *           "expiresAt": null,
                     *           "revokedAt": null,
                     *           "createdBy": "key:ops",
                     *           "revokedBy": ""
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["KeyList"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    createKey: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description The key's name, scopes and life */
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "deploy",
                 *       "scopes": [
                 *         "trigger",
                 *         "read"
                 *       ],
                 *       "ttl": "90d"
                 *     }
                 */
                "application/json": components["schemas"]["KeyRequest"];
            };
        };
        responses: {
            /** @description The key */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "Ab3dEf9h",
                     *       "name": "deploy",
                     *       "scopes": [
                     *         "trigger",
                     *         "read"
                     *       ],
                     *       "createdAt": "2024-01-15T10:30:00.000Z",
                     *       "expiresAt": null,
                     *       "revokedAt": null,
                     *       "createdBy": "key:ops",
                     *       "revokedBy": "",
                     *       "key": "sf_Ab3dEf9h_…"
                     *     }
                     */
                    "application/json": components["schemas"]["MadeKey"];
                };
            };
            /** @description Invalid input */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Invalid input",
                     *       "code": "INVALID_INPUT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Payload too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Payload too large",
                     *       "code": "PAYLOAD_TOO_LARGE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    revokeKey: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The key's id: the part of the key that is no secret.
                 * @example Ab3dEf9h
                 */
                keyId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The key */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "Ab3dEf9h",
                     *       "name": "deploy",
                     *       "scopes": [
                     *         "trigger",
                     *         "read"
                     *       ],
                     *       "createdAt": "2024-01-15T10:30:00.000Z",
                     *       "expiresAt": null,
                     *       "revokedAt": null,
                     *       "createdBy": "key:ops",
                     *       "revokedBy": ""
                     *     }
                     */
                    "application/json": components["schemas"]["ApiKey"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    "WWW-Authenticate": string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Unauthorized",
                     *       "code": "UNAUTHORIZED"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Forbidden",
                     *       "code": "FORBIDDEN"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Not found",
                     *       "code": "NOT_FOUND"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Conflict",
                     *       "code": "CONFLICT"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Internal error */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Internal error",
                     *       "code": "INTERNAL"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
            /** @description Service unavailable */
            503: {
                headers: {
                    "Retry-After": number;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "error": "Service unavailable",
                     *       "code": "UNAVAILABLE"
                     *     }
                     */
                    "application/json": components["schemas"]["Error"];
                };
            };
        };
    };
    getDashboard: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The page */
            200: {
                headers: {
                    /** @example "0f4c" */
                    ETag?: string;
                    /** @example no-cache */
                    "Cache-Control"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The browser has it already */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
}
