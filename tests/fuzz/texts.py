"""What the broken configurations are made of: files, words and flags that are wrong."""

OUT_OF_RANGE = """
rollout.max_tokens=0 rollout.max_tokens=-5 rollout.max_tokens=1.5 rollout.num_generations=0
rollout.temperature=-1 rollout.temperature=nan rollout.temperature=inf rollout.top_p=0 rollout.top_p=1.5
rollout.top_p=nan rollout.top_k=-1 rollout.max_draws=0 seed=-1 seed=1.5 seed=99999999999999999999 seed=nan
watchdog.reward=-5 watchdog.generate=0 watchdog.save=nan ledger.drop=-0.1 ledger.cut=2 ledger.fail=nan
evaluation.tasks=-1 evaluation.num_generations=0 evaluation.temperature=-0.5 evaluation.temperature=nan
trainer.learning_rate=-1e-6 trainer.learning_rate=nan trainer.learning_rate=inf
trainer.per_device_train_batch_size=0 trainer.per_device_train_batch_size=-8
trainer.gradient_accumulation_steps=0 trainer.max_steps=nan trainer.save_steps=-3 trainer.max_minutes=-1
trainer.max_minutes=nan trainer.keep_checkpoints=-1 kernels.completions_at_once=0 reward.correct.time_limit=0
reward.correct.time_limit=-2 reward.correct.weight=nan reward.correct.weight=inf trainer.max_grad_norm=-1
trainer.max_grad_norm=nan launch.num_processes=0 launch.num_processes=-2 trainer.warmup_steps=-1
""".split()  # noqa: SIM905 (a list of 60 lines says no more)

YAML = (
    "_target_: rlpost.objective.clipped.ppo_clip\n\tclip_low: 1\n",
    "_target_: [unclosed\n",
    "- a\n- b\n",
    "just text\n",
    "a: 1\na: 2\n",
    "a: &x [*x\n",
    "{{{{",
    "_target_: 'rlpost.objective.clipped.ppo_clip\n",
    "!!python/object/apply:os.system ['touch ran']\n",
    "_target_: !!python/name:os.system\n",
    "a: !unknown b\n",
    b"\xff\xfe\x00bad bytes",
    "_target_: ${nothing.here}\n",
    "_target_: rlpost.objective.clipped.ppo_clip\nclip_low: ${oc.env:HOME}\n",
    "_target_: rlpost.objective.clipped.ppo_clip\nclip_low: ${unclosed\n",
    "_target_: rlpost.objective.clipped.no_such_function\n",
    "_target_: 5\n",
    "_target_: os.system\n",
    "%",
    "\x00",
    "clip_low: 0.2\n",
    "defaults: 7\n_target_: rlpost.objective.clipped.ppo_clip\n",
    "defaults: [{a: {b: c}}]\n_target_: rlpost.objective.clipped.ppo_clip\n",
    "defaults: [no_such_option]\n_target_: rlpost.objective.clipped.ppo_clip\n",
    "? [a, b]\n: c\n",
    "1: 2\n",
)

RECIPES = (
    "defaults: [\n",
    "defaults: {objective: gspo}\n",
    "defaults:\n  - override /objective: no_such\n",
    "defaults:\n  - override /objektive: gspo\n",
    "defaults:\n  - override /objective: gspo\n  - /reward@reward.more: format\n",
    "defaults:\n  - 5\n",
    "trainer: 5\n",
    "reward: [a, b]\n",
    "rollout: {max_tokens: many}\n",
    "run: {dir: [1]}\n",
    "allow_targets: [os]\n",
    "objective: {_target_: os.system}\n",
    "seed: ${seed}\n",
    "run: {name: '${oc.env:HOME}'}\n",
    "no_such_key: 1\n",
    "trainer: {no_such_field: 1}\n",
    "objective: 3\n",
    "model: [tiny]\n",
    "watchdog: none\n",
    "evaluation: {tasks: all}\n",
    "schedules: 5\n",
    "schedules: {mu: 5}\n",
    "models: x\n",
    "models: {judge: 3}\n",
    "models: [1]\n",
    "aux: {a: 5}\n",
    "aux: 5\n",
    "peft: lora\n",
    "kernels: 5\n",
    "launch: 7\n",
    "dataset: 5\n",
    "!!python/object/apply:os.system ['touch ran']\n",
    b"\xff\xfe",
)

STAGES = (
    "stages: 5\n",
    "stages: []\n",
    "stages: [5]\n",
    "stages: [{name: a}]\n",
    "stages: [{run: sft}]\n",
    "stages: [{name: a, run: nothing}]\n",
    "stages: [{name: a, run: sft, with: 5}]\n",
    "stages: [{name: a, run: sft, with: [objectiv=x]}]\n",
    "stages: [{name: a, run: sft, with: ['=']}]\n",
    "stages: [{name: a, run: sft}, {name: a, run: sft}]\n",
    "stages: [{name: a, run: sft, init: b}]\n",
    "stages: [{name: a, run: sft, unknown: b}]\n",
    "stages: [{name: a, run: sft, with: ['allow_targets=[os]', objective._target_=os.system]}]\n",
    "nothing: 1\n",
    "stages: {a: b}\n",
    "stages: [{name: '../../a', run: sft}]\n",
    "seeds: x\nstages: [{name: a, run: sft}]\n",
    "[",
)

GRAMMAR = (
    "=", "=x", "seed", "a..b=1", ".a=1", "a.=1", "objective=[", "objective={", "objective='", "seed=${nothing.here}",
    "seed=${", "seed=${a:b}", "seed=${oc.env:NO_SUCH_VARIABLE}", "run.name=${run.name}", "ключ=1", "😀=1", "seed=😀",
    "", " ", "seed=1,2", "seed=range(3)", "seed=choice(1,2)", "~", "~nothing", "~objective.nothing", "+", "++",
    "++nothing=1", "seed==1", "reward=[correct,,format]", "reward=[[correct]]", "recipe=[[gspo]]", "recipe=5",
    "reward=5", "objective=5", "seed.a=1", "seed.a.b=1", "objective.clip_low.x=1", "trainer=5", 
    "model={_target_: 5}", "model._target_=null", "rollout={a: 1}", "reward={correct: 5}", "run=5", "run.dir={a: 1}",
    "watchdog=5", "evaluation=null", "hydra.searchpath=[nowhere]", "hydra.searchpath=5", "hydra.searchpath=[5]",
    "hydra.searchpath=[pkg://os]", "hydra.no=1", "hydra.searchpath=[", "hydra/launcher=nowhere", "launch=no",
    "debug=no", "resume=5", "resume=[a]", "resume={a: b}", "init=[a]", "init={}", "built_from=5", "schedules=5",
    "models=5", "models.judge=5", "aux.a=5", "about=5", "allow_targets=[a b]", "allow_targets=5", "allow_targets=",
    "objective=\x00", "seed=\n", "recipe=../../etc/passwd", "objective=/etc/passwd", "objective=../dpo",
    "trainer.max_steps=1e400", "seed=1e3", "objective@x=gspo", "objective@=gspo", "reward@=format",
)  # fmt: skip

SWEEPS = (
    ["seed=1,a"], ["objective=ppo_clip,no"], ["trainer.foo=1,2"], ["resume=x", "seed=1,2"], ["seed="],
    ["seed=1,2", "sed=1"], ["hydra/launcher=nowhere", "seed=1,2"], ["hydra/sweeper=nowhere", "seed=1,2"],
    ["seed=interval(0.5,1)"], ["seed=range(0,x)"], ["rollout.temperature=0,-1"], ["recipe=gspo,dap"],
    ["seed=1,2", "hydra.no_such=1"], ["hydra.launcher.no=1", "seed=1,2"], ["seed=glob(*)"], ["reward=[a],[b]"],
    ["allow_targets=[os x]", "seed=1,2"], ["seed=1,2", "trainer.hub_token=hf_x"],
)  # fmt: skip

FLAGS = (
    ["grpo", "--nope"], ["grpo", "--cfg"], ["grpo", "--cfg", "jbo"], ["grpo", "--info", "x"],
    ["grpo", "--verify-resume", "x"], ["grpo", "--verify-resume", "0"], ["eval", "--verify-resume", "1"],
    ["grpo", "--config-dir", "nowhere", "objective=gspo"], ["gpro"], ["plan"], ["plan", "eval"],
    ["plan", "grpo", "--samples", "0"], ["plan", "grpo", "--samples", "x"], ["plan", "grpo", "--memory", "80GB"],
    ["plan", "grpo", "sed=1"], ["plan", "nothing"], ["explain"], ["explain", "gsppo"], ["explain", "objektive=gspo"],
    ["explain", "gspo", "--config-dir", "nowhere"], ["recipes", "--axis", "objektive"],
    ["recipes", "--config-dir", "nowhere"], ["report"], ["report", "nowhere"], ["report", "file"],
    ["report", "empty"], ["compare"], ["compare", "nowhere"], ["compare", "nowhere", "there"],
    ["compare", "empty", "empty"], ["export"], ["export", "nowhere"], ["export", "empty"], ["export", "file"],
    ["export", "broken"], ["compare", "broken", "broken"], ["compare", "broken", "broken", "--k", "a"],
    ["report", "broken"], ["grpo", "resume=nowhere"], ["grpo", "resume=empty"], ["grpo", "resume=file"],
    ["grpo", "resume=broken"], ["grpo", "resume=other"], ["grpo", "resume=bytes"], ["", ""], ["grpo", "-x"],
    ["plan", "run", "pipeline=no"], ["run", "pipeline=no"], ["run", "objective=gspo"], ["run", "pipeline.with=5"],
    ["run", "pipeline.with=['sed=1']"], ["export", "empty", "--to", "gguf"], ["export", "broken", "--dtype", "int3"],
)  # fmt: skip

FOLDERS: dict[str, str | bytes] = {
    "file": "x",
    "empty/note.txt": "",
    "broken/config.yaml": "a: [1\n",
    "broken/environment.json": "{",
    "broken/overrides.txt": "seed=1\n",
    "broken/metrics.jsonl": "{\n{\n",
    "other/overrides.txt": "seed=1\n",
    "other/environment.json": '{"verb": "sft"}',
    "bytes/overrides.txt": b"\xff\xfe\x00",
    "bytes/config.yaml": b"\xff",
}
