// What starts by itself.
import { html } from "../html.js";
import { count, countdown, millis, shortId } from "../lib/format.js";
import { hashOf } from "../lib/routes.js";
import { api, lacks } from "../net/api.js";
import { Act, Empty, Failed, Loading, Time } from "../parts/bits.js";
import { useNow } from "../parts/now.js";
import { say } from "../parts/say.js";
import { useData } from "../parts/use.js";

export function SchedulesPage() {
  const { data, error, again } = useData(api.schedules, { every: 5000 });
  const now = useNow(1000);
  const act = async (id, what, done) => {
    try {
      const answer = await api.schedule(id, what);
      say(done(answer), "good");
    } catch (wrong) {
      say(wrong.message, "bad");
    }
    again();
  };
  if (error && !data)
    return html`<section class="page"><${Failed} error=${error} retry=${again} /></section>`;
  if (!data) return html`<section class="page"><${Loading} /></section>`;
  return html`<section class="page" aria-label="Schedules">
    <div class="toolbar">
      <h1>Schedules</h1>
      <p class="dim">What starts by itself.</p>
    </div>
    ${
      !data.schedules.length
        ? html`<${Empty}
            title="No schedules"
            command='@flow.workflow("nightly", schedule="30 2 * * *")'
            >A workflow is given one where it is registered:<//
          >`
        : html`<div class="card scroll-x" tabindex="0" role="region" aria-label="Schedules">
            <table>
              <thead>
                <tr>
                  ${["Schedule", "When", "Next", "Last", "Started", "Left out"].map((name) => html`<th scope="col">${name}</th>`)}
                  <th scope="col"><span class="offscreen">Acts</span></th>
                </tr>
              </thead>
              <tbody>
                ${data.schedules.map((each) => {
                  const paused = each.state === "paused";
                  const next = millis(each.nextAt);
                  return html`<tr key=${each.id}>
                    <th scope="row">
                      <span class="wrap">${each.id}</span
                      >${each.id !== each.workflowId && html`<br /><small class="dim">${each.workflowId}</small>`}
                    </th>
                    <td><code>${each.spec}</code></td>
                    <td>
                      ${paused ? html`<span class="badge s-pending t-paused"><i aria-hidden="true"></i>paused</span>` : html`<${Time} ms=${next} /> <span class="dim">${Number.isFinite(next) ? countdown(next - now) : ""}</span>`}
                    </td>
                    <td>
                      ${each.lastRunId ? html`<a href=${hashOf("runs", each.lastRunId)}><code>${shortId(each.lastRunId)}</code></a> ` : ""}<${Time}
                        ms=${millis(each.lastAt)}
                        now=${now}
                      />
                    </td>
                    <td class="num">${count(each.fired)}</td>
                    <td class="num">${count(each.skipped)}</td>
                    <td class="end">
                      <div class="acts">
                        <${Act}
                          label=${paused ? "Resume" : "Pause"}
                          why=${lacks("control")}
                          onAct=${() => act(each.id, paused ? "resume" : "pause", () => `“${each.id}” ${paused ? "goes on" : "is paused"}.`)}
                        />
                        <${Act}
                          label="Run now"
                          why=${lacks("control")}
                          onAct=${() => act(each.id, "trigger", () => `“${each.id}” has started a run.`)}
                        />
                      </div>
                    </td>
                  </tr>`;
                })}
              </tbody>
            </table>
          </div>`
    }
  </section>`;
}
