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
import contextlib
import contextvars
import inspect
import sys
from typing import TYPE_CHECKING, Any

from stepflow.errors import AuthoringError
from stepflow.runtime.tracked import Tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import CodeType, FrameType

    from stepflow.runtime.session import Session

__all__ = ["Branch", "current_branch", "install_factory", "start_root", "uninstall_factory"]

_BRANCH: contextvars.ContextVar[Branch | None] = contextvars.ContextVar(
    "stepflow_branch", default=None
)
_FRAMES_LOOKED_AT = 8
_BODY = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR
_WAIT_FOR = asyncio.wait_for.__code__


def _as_completed_code() -> CodeType:
    """Return the code that makes tasks of bare coroutines; since 3.13 that of a class."""
    iterator = getattr(asyncio.tasks, "_AsCompletedIterator", None)
    function: Any = asyncio.as_completed if iterator is None else iterator.__init__
    code: CodeType = function.__code__
    return code


_AS_COMPLETED = _as_completed_code()


class Branch:
    """One task of a run, as a place where names are counted."""

    __slots__ = ("_children", "_names", "owned", "path", "session")

    def __init__(self, session: Session, path: str) -> None:
        self.session = session
        self.path = path
        self.owned = False
        """Whether the task that is this branch is known."""
        self._names: dict[str, int] = {}
        self._children: dict[str, int] = {}

    def key(self, name: str) -> str:
        """Return the step key of the next use of `name` in this branch."""
        names = self._names
        number = names.get(name, 0) + 1
        names[name] = number
        if number == 1 and not self.path:
            # To format a number costs twice as much as all the rest.
            return name + "#1"
        return f"{self.path}/{name}#{number}" if self.path else f"{name}#{number}"

    def next_key(self, name: str) -> str:
        """Return the key that `key` would, and allot none."""
        number = self._names.get(name, 0) + 1
        return f"{self.path}/{name}#{number}" if self.path else f"{name}#{number}"

    def child(self, qualname: str) -> Branch:
        """Return the branch of the next task of that name born here."""
        number = self._children.get(qualname, 0) + 1
        self._children[qualname] = number
        step = f"{qualname}~{number}"
        return Branch(self.session, f"{self.path}/{step}" if self.path else step)


def running_branch() -> Branch | None:
    """Return the branch whose code runs, whichever run's it is; None outside all of them."""
    return _BRANCH.get()


def current_branch(session: Session) -> Branch:
    """Return the branch of `session` that the running task is.

    Raises `AuthoringError` outside a task of the run: in a step, a callback or another run.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        # No loop runs here: a thread.
        task = None
    if task is not None:
        branch = session.branches.get(task)
        if branch is not None:
            return branch
    branch = _BRANCH.get()
    if branch is None or (branch.session is session and session.ended):
        message = (
            "ctx was used outside its workflow's body: in a step, after the run ended, or from "
            "another task; pass what the step needs as arguments"
        )
        raise AuthoringError(message)
    if branch.session is not session:
        message = "ctx was used inside another run; each run has its own ctx"
        raise AuthoringError(message)
    if task is None or not branch.owned:
        # A callback, or the first step of an eager task.
        return branch
    # Somebody replaced the task factory: such a task is known from its first use of ctx on.
    stranger = branch.child(_qualname(task.get_coro()))
    session.gate.tasks += 1
    session.add_task(task, stranger)
    return stranger


def start_root(
    session: Session, coro: Coroutine[Any, Any, None], base: contextvars.Context
) -> asyncio.Task[None]:
    """Start the run's root task; its branch is the empty path."""
    branch = Branch(session, "")
    context = base.copy()
    context.run(_BRANCH.set, branch)
    branch.owned = True
    session.gate.tasks += 1
    tracked = session.track_root(coro)
    # Not through the loop's factory: the root is born outside any run.
    task: asyncio.Task[None] = asyncio.Task(
        tracked, loop=session.loop, context=context, name=session.run_id
    )
    tracked.task = task
    session.branches[task] = branch
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


def _creator(frame: FrameType | None) -> tuple[str, FrameType | None]:
    """Say which asyncio helper creates the task: `wait_for`, `as_completed` or neither.

    Only what is between here and the nearest coroutine has a part in it: since 3.12, and without a
    timeout before, `wait_for` makes no task, and the frames of what it awaits lie on its own.
    """
    for _ in range(_FRAMES_LOOKED_AT):
        if frame is None:
            break
        code = frame.f_code
        if code is _WAIT_FOR:
            return "wait_for", frame
        if code is _AS_COMPLETED:
            return "as_completed", frame
        if code.co_flags & _BODY:
            break
        frame = frame.f_back
    return "", None


class _Factory:
    """A task factory that acts for tasks born inside a run and passes all others to the host's."""

    __slots__ = ("_takes_context", "active", "host")

    def __init__(self, host: Any) -> None:
        self.host: Any = None
        self.active = True
        self.goes_to(host)

    def goes_to(self, host: Any) -> None:
        """Pass all that is not a run's to `host`, `None` being asyncio itself."""
        self.host = host
        self._takes_context = host is None or _takes_context(host)

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
        parent = _parent_branch() if self.active else None
        if parent is None or parent.session.ended or isinstance(coro, Tracked):
            # Tracked: another engine's factory, above this one, has seen to it.
            return self._make(loop, coro, **kwargs)
        return _make_child(self._make_in, loop, coro, parent, kwargs)

    def _make(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
        if self.host is not None:
            return self.host(loop, coro, **kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)

    def _make_in(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Any,
        context: contextvars.Context,
        kwargs: dict[str, Any],
    ) -> Any:
        if self._takes_context:
            return self._make(loop, coro, context=context, **kwargs)
        # A factory of the old kind: the task copies the context in which it is made.
        return context.run(self._make, loop, coro, **kwargs)


def _takes_context(host: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(host).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == "context" or p.kind is p.VAR_KEYWORD for p in parameters)


def install_factory(loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
    """Install the task factory; return it, to be given to `uninstall_factory`."""
    factory = _Factory(loop.get_task_factory())
    loop.set_task_factory(factory)
    return factory


def uninstall_factory(loop: asyncio.AbstractEventLoop, factory: Callable[..., Any]) -> None:
    """Take the factory out of the loop's chain, or, where that is hidden by another's, step aside.

    Several engines may share a loop and stop in any order.
    """
    assert isinstance(factory, _Factory)
    factory.active = False
    above: object = loop.get_task_factory()
    if above is factory:
        loop.set_task_factory(factory.host)
    while isinstance(above, _Factory) and above is not factory:
        if above.host is factory:
            above.goes_to(factory.host)
            return
        above = above.host


def _make_child(
    make: Callable[..., Any],
    loop: asyncio.AbstractEventLoop,
    coro: Any,
    parent: Branch,
    kwargs: dict[str, Any],
) -> Any:
    creator, frame = _creator(sys._getframe(2))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  the only way
    if creator == "as_completed":
        _close_all(coro, frame)
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
    # The author may give the context that is in use: it goes on naming the parent, as it must.
    with contextlib.suppress(RuntimeError):
        context.run(_BRANCH.set, branch)
    session.gate.tasks += 1
    try:
        task = make(loop, session.track(coro), context, kwargs)
    except BaseException:
        session.gate.tasks -= 1
        raise
    session.add_task(task, branch)
    return task


def _close_all(coro: Any, frame: FrameType | None) -> None:
    """Close what `as_completed` was given, so that none of it is said never to be awaited."""
    given: list[Any] = [coro]
    found: Any
    for found in frame.f_locals.values() if frame is not None else ():
        if isinstance(found, list | tuple | set):
            given.extend(found)  # pyright: ignore[reportUnknownArgumentType]
    for each in given:
        if inspect.iscoroutine(each):
            each.close()


def _qualname(coro: Any) -> str:
    name = getattr(coro, "__qualname__", None) or type(coro).__qualname__
    return str(name).replace("/", "_")
