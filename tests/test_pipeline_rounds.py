"""Pipelines: matrices of seeds and arms with their table, rounds, and what a stage takes from others."""

from rlpost import pipeline
from rlpost.run.folder import RunFolder
from tests.test_pipeline import Runner, config, faults

MATRIX = {
    "with": {"all": ["model=tiny"], "grpo": ["trainer.max_steps=3"]},
    "stages": [
        {"name": "start", "run": "eval"},
        {
            "name": "arms",
            "each": {"seed": [0, 1, 2], "arm": {"on": ["bonus=on"], "off": []}},
            "stages": [{"name": "sft", "run": "sft"}, {"name": "rl", "run": "grpo", "init": "sft"}],
        },
    ],
}


def test_each_makes_a_matrix_of_seeds_and_arms():
    stages = pipeline.plan(MATRIX, ["seed=9"])
    assert len(stages) == 13
    assert stages[2].label == "arms-seed-0-arm-on/rl"
    assert stages[2].init == ("arms-seed-0-arm-on", "sft")
    assert stages[2].overrides == ("seed=0", "model=tiny", "trainer.max_steps=3", "bonus=on")
    assert stages[11].overrides == ("seed=2", "model=tiny")
    assert stages[11].cell == (("seed", "2"), ("arm", "off"))
    assert stages[0].overrides == ("seed=9", "model=tiny")


def test_the_table_gives_mean_and_error_over_seeds_and_paired_differences(tmp_path):
    stages = [
        {"name": "start", "run": "eval"},
        {
            "name": "s",
            "each": {"seed": [0, 1, 2]},
            "stages": [{"name": "on", "run": "grpo", "with": ["bonus=on"]}, {"name": "off", "run": "grpo"}],
        },
    ]
    rows = {"start": "start", "with": "on", "without": "off", "gain": ["on", "off"], "over start": ["on", "start"]}
    columns = {"acc": "held_out.after", "objective": "objective", "nothing": "x.y"}
    tree = {"stages": stages, "table": [{"title": "Arms", "columns": columns, "rows": rows}]}
    cfg = config(tmp_path, tree)
    table = pipeline.run(cfg, RunFolder.create(cfg), Runner())["tables"][0]
    # with the bonus: acc .5, .6, .7; without: .5 each; differences 0, .1, .2: standard error .1 / sqrt(3)
    assert table["columns"] == ["", "acc", "objective", "nothing"]
    assert table["rows"] == [
        ["start", "0.500", "0.000", "–"],
        ["with", "0.600 ± 0.058", "0.200 ± 0.058", "–"],
        ["without", "0.500 ± 0.000", "0.100 ± 0.058", "–"],
        ["gain", "0.100 ± 0.058", "0.100 ± 0.000", "–"],
        ["over start", "0.100 ± 0.058", "0.200 ± 0.058", "–"],
    ]
    assert "up to 3 runs" in table["note"]


def test_a_row_of_the_table_may_be_one_round(tmp_path):
    loop = {"name": "loop", "times": 2, "stages": [{"name": "rl", "run": "grpo", "with": ["seed=<round>"]}]}
    rows = {"both": "rl", "first": "rl@1", "second": "rl@2", "third": "rl@3"}
    table = {"title": "Rounds", "columns": {"objective": "objective"}, "rows": rows}
    cfg = config(tmp_path, {"stages": [loop], "table": [table]})
    found = pipeline.run(cfg, RunFolder.create(cfg), Runner())["tables"][0]["rows"]
    assert found == [["both", "0.050 ± 0.050"], ["first", "0.000"], ["second", "0.100"], ["third", "–"]]


def test_times_goes_on_from_its_own_model_of_the_round_before():
    tree = {
        "stages": [
            {"name": "sft", "run": "sft"},
            {
                "name": "loop",
                "times": 2,
                "stages": [
                    {"name": "generator", "run": "grpo", "init": "sft", "times": 2},
                    {"name": "verifier", "run": "grpo"},
                    {"name": "test", "run": "eval", "init": "generator"},
                ],
            },
            {"name": "last", "run": "eval", "init": "verifier"},
        ]
    }
    stages = pipeline.plan(tree)
    starts = [(stage.label, "/".join(stage.init or ())) for stage in stages]
    assert starts == [
        ("sft", ""),
        ("loop-1/generator-1", "sft"),
        ("loop-1/generator-2", "loop-1/generator-1"),
        ("loop-1/verifier", ""),
        ("loop-1/test", "loop-1/generator-2"),
        ("loop-2/generator-1", "loop-1/generator-2"),
        ("loop-2/generator-2", "loop-2/generator-1"),
        ("loop-2/verifier", "loop-1/verifier"),
        ("loop-2/test", "loop-2/generator-2"),
        ("last", "loop-2/verifier"),
    ]


ALTERNATING = {
    "stages": [
        {"name": "verifier", "run": "grpo"},  # alone first
        {
            "name": "loop",
            "times": 2,
            "stages": [
                {
                    "name": "generator",
                    "run": "grpo",
                    "times": 2,
                    "keep": ["optimizer"],
                    "models.verifier": "verifier",
                    "models.reference": "generator~1",
                },
                {
                    "name": "verifier",
                    "run": "grpo",
                    "init": "verifier",
                    "keep": ["optimizer"],
                    "data": {"from": ["generator", "generator~1"], "build": "best_of_group"},
                },
            ],
        },
    ]
}


def test_two_policies_alternate_and_each_keeps_its_own_optimizer():
    stages = pipeline.plan(ALTERNATING)

    def short(path):
        return "/".join(path or ())

    found = [
        (
            s.label,
            short(s.init),
            short(s.optimizer),
            [(r, short(m.path)) for r, m in s.models],
            [*map(short, s.built_from)],
        )
        for s in stages
    ]
    one, two = "loop-1/generator-1", "loop-1/generator-2"
    three, four = "loop-2/generator-1", "loop-2/generator-2"
    assert found == [
        ("verifier", "", "", [], []),
        (one, "", "", [("verifier", "verifier")], []),
        (two, one, one, [("verifier", "verifier")], []),
        ("loop-1/verifier", "verifier", "verifier", [], [two, one]),
        (three, two, two, [("verifier", "loop-1/verifier"), ("reference", one)], []),
        (four, three, three, [("verifier", "loop-1/verifier"), ("reference", two)], []),
        ("loop-2/verifier", "loop-1/verifier", "loop-1/verifier", [], [four, three]),
    ]


def test_a_round_goes_on_from_what_ran_last():
    """In the first round neither the stage named by init nor the completions are there: what is picked counts."""
    loop = [
        {"name": "answers", "run": "sample", "init": "dpo"},
        {"name": "rl", "run": "grpo", "init": "dpo", "data": {"from": "rl", "build": "best_of_group"}},
        {"name": "dpo", "run": "dpo", "init": "rl", "data": {"from": "answers", "build": "best_of_group"}},
    ]
    stages = pipeline.plan({"stages": [{"name": "loop", "times": 2, "stages": loop}]})
    assert [(s.label, "/".join(s.init or ()), s.build, len(s.built_from)) for s in stages] == [
        ("loop-1/answers", "", None, 0),
        ("loop-1/rl", "", None, 0),
        ("loop-1/dpo", "loop-1/rl", "best_of_group", 1),
        ("loop-2/answers", "loop-1/dpo", None, 0),
        ("loop-2/rl", "loop-1/dpo", "best_of_group", 1),
        ("loop-2/dpo", "loop-2/rl", "best_of_group", 1),
    ]


def test_the_first_of_several_that_has_run_and_the_number_of_the_round():
    loop = [
        {"name": "answers", "run": "sample", "init": ["dpo", "sft"], "with": ["trainer.round=<round>"]},
        {"name": "dpo", "run": "dpo", "init": "sft", "models.reference": "sft"},
    ]
    stages = pipeline.plan({"stages": [{"name": "sft", "run": "sft"}, {"name": "loop", "times": 2, "stages": loop}]})
    assert [("/".join(s.init or ()), s.overrides, [m.path for _, m in s.models]) for s in stages[1:]] == [
        ("sft", ("trainer.round=0",), []),
        ("sft", (), [("sft",)]),
        ("loop-1/dpo", ("trainer.round=1",), []),
        ("loop-1/dpo", (), [("sft",)]),
    ]
    once = {"name": "loop", "times": 1, "stages": loop[1:]}
    assert "init=sft is no earlier stage" in faults({"stages": [once]})
    once["stages"] = [{"name": "rl", "run": "grpo", "init": "dpo"}, {"name": "dpo", "run": "dpo"}]
    assert pipeline.plan({"stages": [once]})[0].init is None


def test_what_a_stage_takes_from_others_becomes_overrides(tmp_path):
    stages = [
        {"name": "sft", "run": "sft"},
        {"name": "rm", "run": "reward"},
        {"name": "answers", "run": "sample", "init": "sft", "models.reward": "rm"},
        {
            "name": "dpo",
            "run": "dpo",
            "with": ["scorer@models.judge=own", "scorer@models.head=reward_head"],
            "models.reference": "sft",
            "models.judge": "sft",
            "models.head": "rm",
            "data": {"from": "answers", "build": "best_of_group"},
        },
    ]
    cfg = config(tmp_path, {"stages": stages})
    folder, runner = RunFolder.create(cfg), Runner()
    pipeline.run(cfg, folder, runner)
    root = folder.path
    trained = f"{{_target_: rlpost.models.saved.trained, run: '{root / 'sft'}'}}"
    head = f"{{_target_: rlpost.models.scorer.heads.RewardHead, path: '{root / 'rm' / 'model'}'}}"
    assert runner.calls[2][1][1:] == [f"init='{root / 'sft' / 'model'}'", f"models.reward={head}"]
    assert runner.calls[3][1][3:] == [
        f"models.reference={trained}",
        f"models.judge.model={trained}",
        f"models.head.path='{root / 'rm' / 'model'}'",
        "build=best_of_group",
        f"built_from=['{root / 'answers'}']",
    ]


def test_keep_needs_a_stage_that_goes_on_from_itself():
    tree = {
        "stages": [{"name": "sft", "run": "sft"}, {"name": "rl", "run": "grpo", "init": "sft", "keep": ["optimizer"]}]
    }
    assert "stage rl: keep: [optimizer] has nothing to keep" in faults(tree)
    tree["stages"][1]["times"] = 2
    assert [bool(stage.optimizer) for stage in pipeline.plan(tree)] == [False, False, True]


def test_names_inside_one_cell_are_unknown_outside_of_it():
    tree = {**MATRIX, "stages": [*MATRIX["stages"], {"name": "last", "run": "eval", "init": "rl"}]}
    assert "init=rl is no earlier stage" in faults(tree)
