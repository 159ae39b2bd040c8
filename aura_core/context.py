"""What the model is given to see and to remember: dual sliding windows over turns and QA groups.

The window holds the newest chunks with their turns; the history holds, as text only, the QA groups whose chunks have
left it. Chunks leave in one cut of `n_extra`, so that between two cuts `messages()` only ever grows at its end: that
is what makes prefix caching work. Serving, training and evaluation all build their prompts here (paper, section 3).

Pure bookkeeping: no model, no clock, no pixels touched. Training builds a context of any moment by replaying turns::

    context = Context.replay(turns_before)
    context.open_turn(chunk, question)
    sample = context.messages() + [Message("assistant", reply)]  # what generation saw, and what it should say
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from aura_core.chunks import Chunk

#: The released checkpoint's prompt; `<|silent|>` in it is the control token itself.
SYSTEM_PROMPT = (
    "You are receiving a live video stream where the final frame is the present moment. Respond only when a response "
    "is needed based on the user's message or the visual context. Otherwise, output `<|silent|>` to signify silence."
)

#: For models that were never trained to be silent, and write `<|silent|>` in letters.
PLAIN_SYSTEM_PROMPT = (
    "You are receiving a live video stream, one second with every message; the newest second is the present moment. "
    "Most of the time you stay silent: then your whole answer is exactly <|silent|> and nothing else. Speak only when "
    "the user's message or what is newly seen calls for it. Answer a question at once, in one or two short sentences. "
    "When you were asked to tell when something happens, stay silent until it happens, then say so in one sentence."
)

#: Replies that the history keeps of one group: the first and the newest. Far beyond ordinary use; without a bound the
#: group of a request that fires for days would outgrow every prompt.
MAX_REPLIES = 32


@dataclass(frozen=True)
class Message:
    """One message of the conversation. An assistant message with `text` None is silent; a user message has a text,
    perhaps an empty one, and in the window a chunk."""

    role: Literal["system", "user", "assistant"]
    text: str | None
    chunk: Chunk | None = None


@dataclass
class Turn:
    """A chunk, the question that arrived in it, and what was said to it (None: silent)."""

    chunk: Chunk
    question: str | None = None
    question_id: str | None = None
    reply: str | None = None

    def user(self) -> Message:
        return Message("user", self.question or "", self.chunk)

    def messages(self) -> list[Message]:
        return [self.user(), Message("assistant", self.reply)]


@dataclass
class Group:
    """A QA group that left the window: a question and the spoken replies up to the next one.

    What was said before any question is a group with an empty question and no id.
    """

    question: str
    question_id: str | None = None
    replies: list[str] = field(default_factory=list)

    def messages(self) -> list[Message]:
        """user(question), assistant(first reply or silent), then an empty user message before every later reply."""
        messages = [Message("user", self.question), Message("assistant", self.replies[0] if self.replies else None)]
        for reply in self.replies[1:]:
            messages += [Message("user", ""), Message("assistant", reply)]
        return messages


class Context:
    """The dual sliding window of one session.

    n: chunks that stay after a cut (N, 30); n_extra: chunks that a cut drops (N', 15); m: QA groups that a cut
    leaves in the history (M, 10), pinned ones not counted. Turns are opened and closed in order, one at a time.
    """

    def __init__(self, system_prompt: str = SYSTEM_PROMPT, n: int = 30, n_extra: int = 15, m: int = 10) -> None:
        if min(n, n_extra, m) < 1:
            raise ValueError(f"n, n_extra and m must be at least 1, not {n}, {n_extra}, {m}")
        self.system_prompt = system_prompt
        self.n, self.n_extra, self.m = n, n_extra, m
        self._history: list[Group] = []
        self._window: list[Turn] = []
        self._open: Turn | None = None
        self._pinned: dict[str, None] = {}  # an ordered set

    @classmethod
    def replay(
        cls, turns: Iterable[Turn], system_prompt: str = SYSTEM_PROMPT, n: int = 30, n_extra: int = 15, m: int = 10
    ) -> Context:
        """The context after these turns. Pins are not part of turns; pin on the result, or replay by hand."""
        context = cls(system_prompt, n, n_extra, m)
        for turn in turns:
            context.open_turn(turn.chunk, turn.question, turn.question_id)
            context.close_turn(turn.reply)
        return context

    # Turns

    def open_turn(self, chunk: Chunk, question: str | None = None, question_id: str | None = None) -> None:
        """Begin the turn of `chunk`; a `question` of None is no question. Raises RuntimeError if a turn is open."""
        if self._open is not None:
            raise RuntimeError("the last turn was not closed")
        self._open = Turn(chunk, question, question_id)

    def close_turn(self, reply: str | None) -> None:
        """End the open turn with a reply, or with None (or nothing to say: "") as a silent one; then cut if due.

        Raises RuntimeError if no turn is open.
        """
        if self._open is None:
            raise RuntimeError("no turn is open")
        self._open.reply = reply or None
        self._window.append(self._open)
        self._open = None
        if self.next_cut() == 0:
            self._history = self._history_after_cut(self.n_extra)
            del self._window[: self.n_extra]

    def amend_last_reply(self, text: str | None) -> bool:
        """After an interruption: replace the newest reply of the closed turns by the part of it that was heard.

        Nothing heard (None or "") makes its turn silent. Returns False, changing nothing, when nothing was ever said
        or the newest reply has left the history.
        """
        for turn in reversed(self._window):
            if turn.reply is not None:
                turn.reply = text or None
                return True
        group = self._history[-1] if self._history else None
        if group is None or not group.replies:
            return False
        group.replies[-1:] = [text] if text else []
        if not group.replies and group.question_id is None and not group.question:
            self._history.pop()
        return True

    @property
    def window(self) -> Sequence[Turn]:
        """The closed turns whose chunks are in the window, oldest first; at most n + n_extra - 1 of them."""
        return tuple(self._window)

    @property
    def history(self) -> Sequence[Group]:
        """The QA groups that have left the window, oldest first."""
        return tuple(self._history)

    # Messages

    def messages(self) -> list[Message]:
        """The system message, the history, the window; if a turn is open, its user message ends the list.

        Roles alternate after the system message. Between two cuts each list is a prefix of the next one, but for an
        amended reply and a forgotten question.
        """
        messages = self._render(self._history, self._window)
        if self._open is not None:
            messages.append(self._open.user())
        return messages

    def next_cut(self) -> int:
        """How many turns are still to be closed until the next cut happens (1: the cut is at the next close)."""
        return self.n + self.n_extra - len(self._window)

    def after_cut_messages(self, turns: int | None = None) -> list[Message]:
        """The messages that will stand after the next cut, as far as known: what an engine can compute in advance.

        With `turns` at most so many of the window's turns, so that the work can be spread. Only the system message
        while the turns that will leave are not all there.
        """
        if len(self._window) < self.n_extra:
            return self._render([], [])
        kept = self._window[self.n_extra :]
        return self._render(self._history_after_cut(self.n_extra), kept[:turns])

    def _render(self, history: Iterable[Group], window: Iterable[Turn]) -> list[Message]:
        messages = [Message("system", self.system_prompt)]
        for part in (*history, *window):
            messages += part.messages()
        return messages

    # The cut

    def _history_after_cut(self, leaving: int) -> list[Group]:
        """The history with the text of the oldest `leaving` turns, then cut to the newest m groups and the pinned."""
        groups = [Group(group.question, group.question_id, list(group.replies)) for group in self._history]
        for turn in self._window[:leaving]:
            if turn.question is not None:
                groups.append(Group(turn.question, turn.question_id))
            if turn.reply is not None:
                # The newest group is the one this reply belongs to: older turns have left before it.
                if not groups:
                    groups.append(Group(""))
                groups[-1].replies.append(turn.reply)
        for group in groups:
            excess = max(0, len(group.replies) - MAX_REPLIES)
            del group.replies[1 : 1 + excess]
        oldest = len(groups) - self.m
        return [group for i, group in enumerate(groups) if i >= oldest or group.question_id in self._pinned]

    # Pins

    @property
    def pinned(self) -> Sequence[str]:
        """The ids of the pinned questions, in the order in which they were pinned."""
        return tuple(self._pinned)

    def pin(self, question_id: str) -> None:
        """Keep the QA group of this question whatever its age (it does not bring back a group that was cut)."""
        self._pinned[question_id] = None

    def unpin(self, question_id: str) -> None:
        """Let the group go its way again: the next cut counts it like any other."""
        self._pinned.pop(question_id, None)

    def forget(self, question_id: str) -> None:
        """Take a question and the first reply to it out, as if it had never been asked; what was said later stays. A
        model that still read a request which was stopped would go on meeting it."""
        self.unpin(question_id)
        for turn in filter(None, (*self._window, self._open)):
            if turn.question_id == question_id:
                turn.question = turn.question_id = turn.reply = None
        for i, group in enumerate(self._history):
            if group.question_id == question_id:
                del self._history[i]
                later = group.replies[1:]
                if i:
                    self._history[i - 1].replies += later
                elif later:
                    self._history.insert(0, Group("", None, later))
                return

    # Snapshots

    def texts(self) -> list[Group]:
        """All that was said and asked in closed turns, as the history that would stand if every chunk left now."""
        return self._history_after_cut(len(self._window))

    def remember(self, groups: Iterable[Group]) -> None:
        """Begin with this history. Raises RuntimeError when there are turns already."""
        if self._window or self._open is not None:
            raise RuntimeError("the context has begun")
        self._history = list(groups)

    def snapshot(self) -> dict[str, Any]:
        """The whole state as a plain dict that JSON can hold, chunks by their uid only.

        Raises RuntimeError while a turn is open.
        """
        if self._open is not None:
            raise RuntimeError("a turn is open")
        return {
            "system_prompt": self.system_prompt,
            "n": self.n,
            "n_extra": self.n_extra,
            "m": self.m,
            "pinned": list(self._pinned),
            "history": [asdict(group) for group in self._history],
            "window": [
                {"chunk": turn.chunk.uid, "question": turn.question, "question_id": turn.question_id,
                 "reply": turn.reply}
                for turn in self._window
            ],
        }  # fmt: skip

    @classmethod
    def restore(cls, state: Mapping[str, Any], chunks: Mapping[str, Chunk]) -> Context:
        """The context of a snapshot; `chunks` gives back the pixels by uid. Raises KeyError if one is missing."""
        context = cls(state["system_prompt"], state["n"], state["n_extra"], state["m"])
        context._pinned = dict.fromkeys(state["pinned"])
        context._history = [
            Group(group["question"], group["question_id"], list(group["replies"])) for group in state["history"]
        ]
        context._window = [
            Turn(chunks[turn["chunk"]], turn["question"], turn["question_id"], turn["reply"])
            for turn in state["window"]
        ]
        return context
