"""`ptune plan`: a journey from the first look at a recipe to the cheaper template that it names."""

from pathlib import Path

from command_line import Run


def test_the_plan_leads_to_the_cheaper_template(desk: Path, ptune: Run) -> None:
    ran = ptune("plan", "recipe.yaml")
    assert ran.code == 0, ran.err
    assert "constant per example" in ran.out and "field text" in ran.out and "in memory" in ran.out
    assert "4 x " in ran.out and "attention not counted" in ran.out and "hint:" not in ran.out
    assert not Path("runs").exists()

    front = ("--set", "template={soft:3}What a day : {text} It was{mask}")
    ran = ptune("plan", "recipe.yaml", *front)
    assert ran.code == 0 and "constant per example" not in ran.out and "constant for the task" in ran.out
    behind = "What a day : {text}{soft:3} It was{mask}"
    assert "hint: the learned tokens stand in front of the text, so each step computes all of it; behind it" in ran.out
    assert behind in ran.out
    before = ptune("plan", "recipe.yaml", *front, "--json").json["training"]
    after = ptune("plan", "recipe.yaml", "--set", f"template={behind}", "--json").json["training"]
    factor = before["flops_per_example"] / after["flops_per_example"]
    assert factor > 1 and f"{factor:.1f} times fewer FLOPs" in ran.out


def test_json_holds_all_that_is_shown(desk: Path, ptune: Run) -> None:
    facts = ptune("plan", "recipe.yaml", "--set", "candidates=4", "--json").json
    training = facts["training"]
    assert training["num_candidates"] == 4 and training["examples_per_step"] == 4
    assert training["per_candidate"]["live_tokens"] * 4 == training["cost"]["live_tokens"]
    assert training["gain"] == training["plain_flops_per_example"] / training["flops_per_example"]
    assert {segment["decision"] for segment in training["segments"]} == {"constant per example", "live"}
    assert facts["contexts"]["place"] == "memory" and facts["contexts"]["num_bytes"] > 0 and facts["hints"] == []
    assert "each of 4 candidates" in ptune("plan", "recipe.yaml", "--set", "candidates=4").out


def test_a_prompt_without_learned_tokens_has_no_training(desk: Path, ptune: Run) -> None:
    settings = ("--set", "method=hard", "--set", "template={text} It was{mask}")
    assert "training: nothing learns" in ptune("plan", "recipe.yaml", *settings).out
    assert ptune("plan", "recipe.yaml", *settings, "--json").json["training"] is None


def test_what_would_keep_a_run_from_beginning_is_an_error(desk: Path, ptune: Run) -> None:
    for settings, words in {
        ("--set", "template={text}{soft:90} It was{mask}"): "do not fit into 64 positions",
        ("--set", "keep_context=true", "--set", "tune=lm"): "contexts cannot be kept: the language model itself is trained",
        ("--set", "stepz=4"): "did you mean",
    }.items():
        ran = ptune("plan", "recipe.yaml", *settings)
        assert ran.code == 2 and len(ran.error_lines) == 1 and words in ran.error_lines[0], ran.err
