// A page that tests tell what to follow, and how.

import { createClient, type RunEvent } from "@stepflow/client";

interface Diary {
  events: [string, string, string][];
  states: string[];
  over: string;
}

const diary: Record<string, Diary> = {};

function follow(name: string, url: string, run: string, token: string, transport: "fetch" | "eventsource"): void {
  const notes: Diary = { events: [], states: [], over: "" };
  diary[name] = notes;
  const client = createClient({ url, token, transport });
  void (async () => {
    try {
      const onConnection = (state: string): void => void notes.states.push(state);
      for await (const event of client.subscribeToRun(run, { onConnection }) as AsyncIterable<RunEvent>) {
        if (event.id) notes.events.push([event.id, event.event, JSON.stringify(event.data)]);
      }
      notes.over = "ended";
    } catch (error) {
      notes.over = String(error);
    }
  })();
}

Object.assign(globalThis, { diary, follow });
