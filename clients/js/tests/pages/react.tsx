// A page with `useRun`, in strict mode: `?url=…&run=…&token=…`.

import { createClient } from "@stepflow/client";
import { useRun } from "@stepflow/client/react";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);
const client = createClient({ url: query.get("url") ?? "" });
const accessToken = query.get("token") ?? "";

function Watch({ runId }: { runId: string }) {
  const { run, error, connection } = useRun(runId, { client, accessToken });
  return (
    <section>
      <output id="status">{run?.status ?? connection}</output>
      <ol>
        {run?.steps?.map((step) => (
          <li key={step.key}>
            {step.key} {step.status}
          </li>
        ))}
      </ol>
      <pre id="result">{JSON.stringify(run?.result)}</pre>
      <pre id="error">{error instanceof Error ? error.message : ""}</pre>
    </section>
  );
}

function Page() {
  const [shown, show] = useState(true);
  return (
    <>
      <button type="button" onClick={() => show(!shown)}>
        {shown ? "hide" : "show"}
      </button>
      {shown && <Watch runId={query.get("run") ?? ""} />}
    </>
  );
}

const root = document.createElement("main");
document.body.append(root);
createRoot(root).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
