// Where the API is: whatever stands before `/ui/` in this module's own address.
// No file of ours is in a directory called `ui`, so the last one is the route, whatever the prefix.
const here = import.meta.url;

export const base = here.slice(0, here.lastIndexOf("/ui/") + 1);
