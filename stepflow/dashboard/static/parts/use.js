// Data of a page: loaded, loaded again now and then, and when the stream says that it has changed.
import { line, listen } from "../net/live.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";

/** Return `{ data, error, again }`; `every` milliseconds it is asked for anew while somebody looks. */
export function useData(ask, { every = 0, on = [], wakes = null } = {}) {
  const [state, setState] = useState({ data: null, error: null });
  const turn = useRef(0);
  const again = async () => {
    const mine = (turn.current += 1);
    try {
      const data = await ask();
      if (mine === turn.current) setState({ data, error: null });
    } catch (error) {
      if (mine === turn.current) setState((now) => ({ data: now.data, error }));
    }
  };
  useEffect(() => {
    again();
    let soon = 0;
    const timer = every && setInterval(() => !document.hidden && again(), every);
    const back = () => !document.hidden && again();
    document.addEventListener("visibilitychange", back);
    const hears =
      wakes &&
      listen(
        (news) =>
          (news.reload || wakes(news)) && (soon ||= setTimeout(() => ((soon = 0), again()), 400)),
      );
    const lines = line.subscribe((now) => now === "live" && again());
    return () => {
      turn.current += 1;
      clearInterval(timer);
      clearTimeout(soon);
      document.removeEventListener("visibilitychange", back);
      hears?.();
      lines();
    };
  }, on);
  return { ...state, again };
}
