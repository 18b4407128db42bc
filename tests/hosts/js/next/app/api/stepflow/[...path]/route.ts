// The API below Next.js.

import { type AuthHandler, anyOf, createApiKeyAuth, type EndpointPreset, sameSite } from "@stepflow/client/handler";
import { createStepflowRoute } from "@stepflow/client/next";

export const dynamic = "force-dynamic";

// Next.js waits at SIGTERM until every answer is out: streams are told to end.
const closing = new AbortController();
process.once("SIGTERM", () => closing.abort());

const ofSession: AuthHandler = ({ request }) => /(?:^|; )user=\w/.test(request.headers.get("cookie") ?? "");

export const { GET, HEAD, POST, PUT, PATCH, DELETE } = createStepflowRoute({
  url: process.env["SERVICE_URL"] ?? "",
  apiKey: process.env["SERVICE_KEY"],
  publicPath: `${process.env["BASE_PATH"] ?? ""}/api/stepflow`,
  endpoints: (process.env["ENDPOINTS"] ?? "all") as EndpointPreset,
  auth: anyOf(sameSite(ofSession), createApiKeyAuth(process.env["CALLER_KEY"] ?? "")),
  closing: closing.signal,
});
