"""The shipped job of HalfCheetah, on data that the package records."""

import csv


def test_its_job_trains_on_recorded_data_and_calls_no_score_d4rls(tmp_path, command, tiny):
    short = ["--evaluation.every=40", '--data.env_kwargs={"max_episode_steps": 50}']
    outcome = command(*tiny(tmp_path, *short, config="conf/halfcheetah.yaml"))
    assert outcome.code == 0, outcome.err
    assert "(not a D4RL score) on made:halfcheetah-medium" in outcome.err + outcome.out
    for stage in ("offline", "online"):
        with (tmp_path / "tiny" / stage / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["d4rl_score"] for row in rows} == {"false"}
        assert rows[-1]["step"] == "40"
