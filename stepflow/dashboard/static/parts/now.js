// The present, for what counts down or up on the page. It stands still while nobody looks.
import { serverNow } from "../net/api.js";
import { useEffect, useState } from "../vendor/hooks.js";

/** Return the time in milliseconds, anew each `every` milliseconds; `every` 0 stops it. */
export function useNow(every = 1000) {
  const [now, setNow] = useState(serverNow());
  useEffect(() => {
    if (!every) return undefined;
    const tick = () => {
      if (!document.hidden) setNow(serverNow());
    };
    const timer = setInterval(tick, every);
    document.addEventListener("visibilitychange", tick);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", tick);
    };
  }, [every]);
  return now;
}
