"""Which branch of a run a task is, and when a task of the run is stepped.

A **branch** is the path of tasks from the run's root: the parent's branch, then the child
coroutine's `__qualname__` and its number in order of creation under that parent. Names used again
are counted within a branch, so two tasks that run at different speeds never get each other's
results.

A task factory sees every task born inside a run; it acts for those alone and passes all others to
the factory that the host had installed. It wraps the coroutine, so that each `send` and `throw`
tells the gate that the run is not quiet.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import TYPE_CHECKING, Any

from stepflow.errors import AuthoringError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from stepflow.runtime.session import Session

__all__ = ["Branch", "current_branch", "install_factory", "start_root", "uninstall_factory"]

_BRANCH: contextvars.ContextVar[Branch | None] = contextvars.ContextVar(
    "stepflow_branch", default=None
)
_WAIT_FOR = asyncio.wait_for.__code__
_AS_COMPLETED = asyncio.as_completed.__code__
_FRAMES_LOOKED_AT = 6


class Branch:
    """One task of a run, as a place where names are counted."""

    __slots__ = ("_children", "_names", "path", "session")

    def __init__(self, session: Session, path: str) -> None:
        self.session = session
        self.path = path
        self._names: dict[str, int] = {}
        self._children: dict[str, int] = {}

    def key(self, name: str) -> str:
        """Return the step key of the next use of `name` in this branch."""
        number = self._names.get(name, 0) + 1
        self._names[name] = number
        return f"{self.path}/{name}#{number}" if self.path else f"{name}#{number}"

    def child(self, qualname: str) -> Branch:
        """Return the branch of the next task of that name born here."""
        number = self._children.get(qualname, 0) + 1
        self._children[qualname] = number
        step = f"{qualname}~{number}"
        return Branch(self.session, f"{self.path}/{step}" if self.path else step)


def current_branch(session: Session) -> Branch:
    """Return the branch of `session` that the running task is.

    Raises `AuthoringError` outside a task of the run: in a step, a callback or another run.
    """
    task = _current_task()
    if task is not None:
        branch = session.branches.get(task)
        if branch is not None:
            return branch
    branch = _BRANCH.get()
    if branch is not None and branch.session is session:
        return branch
    if task is None or branch is None:
        message = (
            "ctx was used outside its workflow's body: in a step, after the run ended, or from "
            "another task; pass what the step needs as arguments"
        )
        raise AuthoringError(message)
    message = "ctx was used inside another run; each run has its own ctx"
    raise AuthoringError(message)


def start_root(
    session: Session, coro: Coroutine[Any, Any, None], base: contextvars.Context
) -> asyncio.Task[None]:
    """Start the run's root task; its branch is the empty path."""
    branch = Branch(session, "")
    context = base.copy()
    context.run(_BRANCH.set, branch)
    session.gate.tasks += 1
    tracked = session.track(coro)
    # Not through the loop's factory: the root is born outside any run.
    task: asyncio.Task[None] = asyncio.Task(
        tracked, loop=session.loop, context=context, name=session.run_id
    )
    session.add_task(task, branch)
    return task


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        # No loop runs here: a thread.
        return None


def _parent_branch() -> Branch | None:
    branch = _BRANCH.get()
    if branch is None:
        return None
    task = _current_task()
    if task is not None:
        # A context shared by several tasks names only one of them: the task itself knows better.
        return branch.session.branches.get(task, branch)
    return branch


def _creator(depth: int) -> str:
    """Say which asyncio helper creates the task: `wait_for`, `as_completed` or neither."""
    frame = sys._getframe(depth)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  the only way
    for _ in range(_FRAMES_LOOKED_AT):
        code = frame.f_code
        if code is _WAIT_FOR:
            return "wait_for"
        if code is _AS_COMPLETED:
            return "as_completed"
        back = frame.f_back
        if back is None:
            return ""
        frame = back
    return ""


def install_factory(loop: asyncio.AbstractEventLoop) -> Callable[..., Any] | None:
    """Install the task factory; return the host's, to be given back to `uninstall_factory`."""
    host: Any = loop.get_task_factory()

    def make(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
        if host is not None:
            return host(loop, coro, **kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
        parent = _parent_branch()
        if parent is None or parent.session.ended:
            return make(loop, coro, **kwargs)
        return _make_child(make, loop, coro, parent, kwargs)

    loop.set_task_factory(factory)
    return host  # type: ignore[no-any-return]


def uninstall_factory(loop: asyncio.AbstractEventLoop, host: Callable[..., Any] | None) -> None:
    """Give the loop its former task factory back."""
    loop.set_task_factory(host)


def _make_child(
    make: Callable[..., Any],
    loop: asyncio.AbstractEventLoop,
    coro: Any,
    parent: Branch,
    kwargs: dict[str, Any],
) -> Any:
    creator = _creator(3)
    if creator == "as_completed":
        coro.close()
        message = (
            "asyncio.as_completed over bare coroutines has no order that a restart could repeat; "
            "use ctx.map, or create the tasks first and pass those"
        )
        raise AuthoringError(message)
    # The task that 3.11's wait_for makes is, to the author, the code that called wait_for.
    branch = parent if creator == "wait_for" else parent.child(_qualname(coro))
    session = parent.session
    context = kwargs.pop("context", None)
    if context is None:
        context = contextvars.copy_context()
    context.run(_BRANCH.set, branch)
    session.gate.tasks += 1
    try:
        task = make(loop, session.track(coro), context=context, **kwargs)
    except BaseException:
        session.gate.tasks -= 1
        raise
    session.add_task(task, branch)
    return task


def _qualname(coro: Any) -> str:
    name = getattr(coro, "__qualname__", None) or type(coro).__qualname__
    return str(name).replace("/", "_")
