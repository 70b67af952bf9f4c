"""Rollouts of several turns: the policy speaks, an environment answers, until one of them is done."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlpost.environment.dialogue import Dialogue, dialogue
from rlpost.environment.protocol import SOURCE, Environment, Episode, Observation
from rlpost.errors import ConfigError
from rlpost.rollout.context import Context
from rlpost.rollout.evaluated import evaluated
from rlpost.rollout.start import Start
from rlpost.types import Rollout, Task


@dataclass
class _Talk:
    """One conversation: what the policy is asked next, and the rows of its utterances so far."""

    episode: Episode
    group: str
    trajectory: int
    asked: Task
    start: Start = field(default_factory=Start)
    rows: list[Rollout] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    span: list[int] = field(default_factory=list)
    over: bool = False


@evaluated
def multi_turn(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    environment: Any,
    max_turns: int = 4,
    rows: Literal["conversation", "turn"] = "conversation",
    score: Literal["last", "each"] = "last",
    workers: int = 16,
) -> list[Rollout]:
    """G conversations of each task with an environment, each as one row or as one row per turn.

    Equation:
        y_1 ~ pi(. | x);  o_t = environment(y_1 .. y_t);  y_(t+1) ~ pi(. | x, y_1, o_1 .. y_t, o_t);  t < max_turns

    Gradient:
        What the environment says never trains (source "environment", mask False); every utterance does.

    Reduces to:
        rollout sample at max_turns 1, and for an environment that never answers.

    Edge cases:
        rows "conversation": one row with the sampled tokens as they are and the observations' from the chat template,
        which must only append (ModelError); `span` numbers the turns, `text` is the last utterance. rows "turn": one
        row per utterance under the whole history, rendered anew, so any template and observations with media will do;
        turn and index count them, trajectory numbers the conversations of a group. score "last" judges the last row
        alone and gives its scores to the earlier ones, whose role is then "turn"; "each" judges every row.
        `max_tokens` bounds one utterance. stop is "length" where the last one was cut, "tool" where max_turns (or the
        environment's limit of calls) ended a conversation that went on, "error" where the environment broke down.
        `workers` conversations step at a time.

    Paper:
        The loop is that of TRL's tool calls; observations are left out of the loss as in Search-R1, arXiv 2503.09516.
    """
    if max_turns < 1 or workers < 1:
        raise ConfigError(f"rollout.max_turns={max_turns} and workers={workers} must be 1 or more")
    play = _Play(ctx, environment, rows, max_turns)
    with ThreadPoolExecutor(workers) as pool:
        groups = ctx.new_groups(len(tasks))
        places = [(k, g) for k in range(len(tasks)) for g in range(ctx.num_generations)]
        episodes = pool.map(lambda place: environment.reset(tasks[place[0]], ctx.encoder), places)
        talks = [play.opened(one, groups[k], g) for (k, g), one in zip(places, episodes, strict=True)]
        for turn in range(max_turns):
            going = [talk for talk in talks if not talk.over]
            play.speak(going, turn)
            heard = pool.map(lambda talk: talk.episode.step(talk.said[-1], talk.rows[-1].stop), going)
            for talk, observation in zip(going, heard, strict=True):
                play.hear(talk, observation, turn)
        list(pool.map(lambda talk: talk.episode.finish(), talks))
    return _settled(talks, ctx, rows, score)


class _Play:
    """The moves of a conversation."""

    def __init__(self, ctx: Context, environment: Environment, rows: str, max_turns: int):
        self.dialogue: Dialogue = dialogue(ctx.encoder, environment.tools)
        self.ctx = replace(ctx, encoder=self.dialogue.encoder)
        self.together, self.max_turns = rows == "conversation", max_turns

    def opened(self, episode: Episode, group: str, trajectory: int) -> _Talk:
        return _Talk(episode, group, trajectory, self.dialogue.opened(episode.task))

    def speak(self, talks: Sequence[_Talk], turn: int) -> None:
        """One utterance of each; its tokens join the row, or are a row."""
        found = self.ctx.generate(
            [talk.asked for talk in talks],
            1,
            group=[talk.group for talk in talks],
            prefixes=[talk.start for talk in talks],
        )
        for talk, row in zip(talks, found, strict=True):
            said = self.ctx.encoder.decode(row.tokens[len(talk.start.tokens) :])
            row.trajectory, row.text = talk.trajectory, said
            row.turn = row.index = 0 if self.together else turn
            talk.span = [*talk.span, *([turn] * (len(row.tokens) - len(talk.span)))] if self.together else talk.span
            talk.said.append(said)
            talk.rows = [row] if self.together else [*talk.rows, row]

    def hear(self, talk: _Talk, heard: Observation, turn: int) -> None:
        """What the environment says becomes what is asked next; without it, or at the last turn, the talk is over."""
        row = talk.rows[-1]
        goes_on = bool(heard.messages) and heard.stop is None
        if heard.until is not None:
            self._cut(talk, heard.until)
        talk.over = not goes_on or turn + 1 == self.max_turns
        if talk.over:
            row.stop = heard.stop or ("tool" if goes_on else row.stop)
        elif self.together:
            self._append(talk, heard)
        else:
            said = {"role": "assistant", "content": self._content(talk, heard)}
            prompt = (*talk.asked.prompt, said, *heard.messages)
            talk.asked = replace(talk.asked, prompt=prompt, media=(*talk.asked.media, *heard.media))

    def _append(self, talk: _Talk, heard: Observation) -> None:
        if heard.media or heard.instead is not None:
            what = "an image or a video" if heard.media else "another history than what was said"
            raise ConfigError(
                f"the environment answers with {what}, which a row of tokens cannot hold; rollout.rows=turn"
            )
        row, between = talk.rows[-1], self.dialogue.between(heard.messages)
        talk.start = Start.of(row, len(row.tokens)) + Start.given(between, SOURCE)
        talk.span += [-1] * len(between)

    def _content(self, talk: _Talk, heard: Observation) -> Any:
        """The utterance as the history tells it, as a text or in parts like the messages before it."""
        text = talk.said[-1] if heard.instead is None else heard.instead
        parts = any(not isinstance(message["content"], str) for message in talk.asked.prompt)
        return [{"type": "text", "text": text}] if parts else text

    def _cut(self, talk: _Talk, until: int) -> None:
        """End the last utterance after `until` characters with an end of turn, which trains as if it had been said."""
        row, first = talk.rows[-1], len(talk.start.tokens)
        own, end = row.tokens[first:], self.ctx.encoder.tokenizer.eos_token_id
        written = len(own) - (row.stop == "eos")
        if row.stop == "eos" and until >= len(talk.said[-1]):
            return
        keep = next((n for n in range(written + 1) if len(self.ctx.encoder.decode(own[:n])) >= until), written)
        keep = min(keep, self.ctx.sampling.max_tokens - 1)
        whole = Start.of(row, first + keep) + Start.given([end], "expert", trains=True)
        row.tokens, row.trains = list(whole.tokens), list(whole.trains)
        row.gen_logp, row.source = list(whole.logp), list(whole.source)
        row.span, row.stop = [-1] * len(row.tokens), "eos"
        row.text = talk.said[-1] = self.ctx.encoder.decode(row.tokens[first:])
        talk.span = [*talk.span[: first + keep], *talk.span[-1:]]


def _settled(talks: Sequence[_Talk], ctx: Context, rows: str, score: str) -> list[Rollout]:
    """All rows, with what the environment knows of them and the scores of the last row where that one is judged."""
    for talk in talks:
        for row in talk.rows:
            row.info |= {**talk.episode.info, "turns": len(talk.said)}
        if rows == "conversation":
            talk.rows[-1].span, talk.rows[-1].info["spans"] = talk.span, list(talk.said)
            talk.rows[-1].info["conversation"] = ctx.encoder.tokenizer.decode(talk.rows[-1].tokens)
    if rows == "turn" and score == "last":
        ctx.score([talk.rows[-1] for talk in talks])
        for talk in talks:
            for row in talk.rows[:-1]:
                row.scores, row.role = dict(talk.rows[-1].scores), "turn"
    return [row for talk in talks for row in talk.rows]
