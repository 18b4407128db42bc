// Which events live runs wait for, and sending them.
import { html } from "../html.js";
import { plural, shortId } from "../lib/format.js";
import { hashOf } from "../lib/routes.js";
import { api, lacks } from "../net/api.js";
import { notifyDialog } from "../parts/acts.js";
import { Act, Empty, Failed, Loading } from "../parts/bits.js";
import { Icon } from "../parts/icons.js";
import { useData } from "../parts/use.js";
import { useState } from "../vendor/hooks.js";

const SHOWN = 5;
const MOST = 500;

export function EventsPage() {
  const { data, error, again } = useData(api.events, {
    every: 5000,
    wakes: (news) => news.patches.some((patch) => patch.state),
  });
  const [text, setText] = useState("");
  if (error && !data)
    return html`<section class="page"><${Failed} error=${error} retry=${again} /></section>`;
  if (!data) return html`<section class="page"><${Loading} /></section>`;
  const fit = data.events.filter(({ eventId }) =>
    eventId.toLowerCase().includes(text.toLowerCase()),
  );
  return html`<section class="page" aria-label="Events">
    <div class="toolbar">
      <h1>Events</h1>
      <p class="dim">What live runs wait for from outside.</p>
      <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
        <label class="search"
          ><${Icon} name="search" /><span class="offscreen">Search events</span
          ><input
            type="search"
            placeholder="Search events"
            value=${text}
            onInput=${(event) => setText(event.target.value)}
        /></label>
      </form>
    </div>
    ${
      !data.events.length
        ? html`<${Empty} title="No run waits for an event" command="stepflow notify paid-1042 '{"amount": 12}'">A workflow waits with <code>ctx.wait_for_event</code>. An event is sent from here, over HTTP, or from a terminal:<//>`
        : !fit.length
          ? html`<${Empty} title="No event is called so">Another word may find some.<//>`
          : html`<div class="card scroll-x" tabindex="0" role="region" aria-label="Awaited events">
              <table>
                <thead>
                  <tr>
                    <th scope="col">Event</th>
                    <th scope="col">Who waits</th>
                    <th scope="col"><span class="offscreen">Send it</span></th>
                  </tr>
                </thead>
                <tbody>
                  ${fit.slice(0, MOST).map(
                    ({ eventId, runs, runIds }) =>
                      html`<tr key=${eventId}>
                        <th scope="row"><code class="wrap">${eventId}</code></th>
                        <td>
                          <span class="dim">${plural(runs, "run")}:</span>${" "}
                          ${runIds.slice(0, SHOWN).map((id) => html`<a key=${id} class="gap" href=${hashOf("runs", id)} title=${id}><code>${shortId(id)}</code></a>`)}
                          ${runs > SHOWN && html`<span class="dim">and ${runs - Math.min(SHOWN, runIds.length)} more</span>`}
                        </td>
                        <td class="end">
                          <${Act}
                            label="Notify …"
                            why=${lacks("notify")}
                            onAct=${() => notifyDialog(null, [eventId])}
                          />
                        </td>
                      </tr>`,
                  )}
                </tbody>
              </table>
            </div>`
    }
    ${fit.length > MOST && html`<p class="dim">The first ${MOST} of ${fit.length}; search for others.</p>`}
  </section>`;
}
