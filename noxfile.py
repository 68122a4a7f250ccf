"""Sessions: `nox -s tests`, `lint`, `types`; `docs` builds the documentation.

`long` has the tests that take minutes, `faults` those that break things, `extras` those of optional
packages; `bench` and `scaling` measure.
"""

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True


def _install(session: nox.Session) -> None:
    session.install("-c", "constraints.txt", "-e", ".[dev,onnx,ray,slurm]")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after `--` go to pytest."""
    _install(session)
    # For its tables alone: what it depends on cannot be installed any more.
    session.install("--no-deps", "d4rl==1.1")
    session.run("python", "-m", "pytest", "-n", "auto", "--dist", "loadfile", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format and style."""
    _install(session)
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    _install(session)
    session.run("mypy")


@nox.session
def long(session: nox.Session) -> None:
    """Run what takes minutes, but for tests/faults and the wheel, which have their own sessions."""
    _install(session)
    session.run(
        "python",
        "-m",
        "pytest",
        *("-m", "long and not faults"),
        "--ignore=tests/cli/test_installed.py",
        *("-n", "auto", "--dist", "loadfile", "--durations=20"),
        *session.posargs,
    )


@nox.session
def extras(session: nox.Session) -> None:
    """Run the tests of optional packages, which other sessions skip where these are missing."""
    packages = ".[bench,dev,mlflow,onnx,ray,slurm,video,wandb]"
    session.install("-c", "constraints.txt", "-e", packages, "stable-baselines3")
    session.run(
        "python",
        "-m",
        "pytest",
        *("-m", "long or not long"),
        "tests/benchmarks/cases",
        "tests/callbacks/test_loggers.py",
        "tests/cli/test_export.py",
        "tests/cli/test_resumed_loggers.py",
        "tests/policies/test_stable_baselines.py",
        *session.posargs,
    )


@nox.session
def faults(session: nox.Session) -> None:
    """Run all of tests/faults: kills, damaged files, full disks, broken environments."""
    _install(session)
    session.run(
        "python", "-m", "pytest", "-m", "faults", "tests/faults", "--durations=20", *session.posargs
    )


@nox.session(python=["3.11", "3.12", "3.13"], tags=["installed"])
def installed(session: nox.Session) -> None:
    """Build the wheel and use it without the repository, with each Python that is there."""
    _install(session)
    session.install("setuptools>=77", "wheel")
    session.run("python", "-m", "pytest", "-m", "long", "tests/cli/test_installed.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed beside other libraries; arguments after `--` go to the script."""
    session.install("-c", "constraints.txt", "-e", ".[bench]")
    session.run("python", "-m", "benchmarks.speed.run", *session.posargs)


@nox.session
def scaling(session: nox.Session) -> None:
    """Measure speed by size and number; arguments after `--` go to the script."""
    session.install("-c", "constraints.txt", "-e", ".")
    session.run("python", "-m", "benchmarks.scaling.run", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; a broken link or an unknown name is an error."""
    # The package is read and not imported, so that its own dependencies are not needed.
    extras = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
    session.install("-c", "constraints.txt", *extras["docs"])
    session.run("mkdocs", "build", "--strict", *session.posargs)
