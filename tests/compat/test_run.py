"""A script through `sightline run`, through `python -m sightline.compat`, and with `enable()` in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import forked
from sightline.compat.run import run_script
from sightline.errors import MissingInputError, UsageError

RUN = [sys.executable, "-m", "sightline", "run"]
MODULE = [sys.executable, "-m", "sightline.compat"]
BOTH = pytest.mark.parametrize("command", [RUN, MODULE], ids=["sightline run", "python -m sightline.compat"])


def start(command: list[str], *words: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, as a user does."""
    return subprocess.run(
        [*command, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **variables},
    )


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


TRAINING = '''
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, colorstr
import sys


class MyTrainer(DetectionTrainer):
    """Counts what a script counts."""

    def __init__(self, cfg=DEFAULT_CFG, overrides=None, _callbacks=None):
        super().__init__(cfg, overrides, _callbacks)
        self.steps = 0

    def optimizer_step(self):
        super().optimizer_step()
        self.steps += 1

    def validate(self):
        metrics, fitness = super().validate()
        LOGGER.info(f"{colorstr('mine: ')}{len(metrics)} metrics, fitness {fitness}")
        return metrics, fitness


if __name__ == "__main__":
    model = YOLO("ultralytics/cfg/models/26/yolo26n.yaml")
    assert RANK == -1
    results = model.train(
        trainer=MyTrainer, data=sys.argv[1], epochs=int(sys.argv[2]), imgsz=64, batch=4, plots=False, device="cpu",
        project="runs",
    )
    assert type(model.trainer) is MyTrainer
    print("steps", model.trainer.steps, "epochs", model.trainer.args.epochs, "map", results.box.map >= 0)
'''


@pytest.mark.e2e
@pytest.mark.parametrize("way", ["run", "module", "enable"])
def test_a_script_with_its_own_trainer_trains(way: str, tiny_data: Path, tmp_path: Path):
    text = TRAINING if way != "enable" else f"import sightline\nsightline.compat.enable()\n{TRAINING}"
    script = write(tmp_path / "my scripts ü" / "train.py", text)
    command = {"run": RUN, "module": MODULE, "enable": [sys.executable]}[way]
    done = forked.run(*command[1:], script, tiny_data, 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "steps 2 epochs 1 map True" in done.stdout  # 8 images, 4 a batch
    assert "mine: " in done.stdout
    assert (tmp_path / "runs" / "train" / "weights" / "best.pt").is_file()


@BOTH
def test_the_script_sees_what_python_shows_it(command: list[str], tmp_path: Path):
    """Run by Python itself, the same script prints the same."""
    write(tmp_path / "work" / "beside.py", "VALUE = 7\n")
    script = write(
        tmp_path / "work" / "seen.py",
        "import sys, os, __main__\n"
        "from beside import VALUE\n"
        "x: int = 1\n"
        "class Here: pass\n"
        "print(sys.argv, sys.path[0], __name__, __file__, VALUE, __annotations__)\n"
        "print(Here.__module__, __main__.Here is Here)\n"
        "if __name__ == '__main__':\n    print('main')\n",
    )
    words = ["a b", "--epochs", "5", "-h", "--", "--replace", "ä=1", ""]
    for name in (script, "work/seen.py"):
        expected = start([sys.executable], name, *words, cwd=tmp_path)
        done = start(command, name, *words, cwd=tmp_path)
        assert done.stderr == ""
        assert done.stdout == expected.stdout
        assert "main" in done.stdout


@BOTH
@pytest.mark.parametrize(
    ("end", "code", "stderr"),
    [
        ("raise SystemExit", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no data')", 1, "no data\n"),
        ("raise KeyboardInterrupt", 130, "error: interrupted\n"),
    ],
)
def test_exit_codes_are_kept(command: list[str], end: str, code: int, stderr: str, tmp_path: Path):
    script = write(tmp_path / "end.py", f"import sys\n{end}\n")
    done = start(command, script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (code, stderr)


@BOTH
def test_an_exception_shows_the_traceback_of_python(command: list[str], tmp_path: Path):
    script = write(
        tmp_path / "fails.py",
        "def inner():\n    return {}['gone']\n\ntry:\n    inner()\nexcept KeyError as error:\n"
        "    raise ValueError('because') from error\n",
    )
    expected, done = start([sys.executable], script, cwd=tmp_path), start(command, script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, expected.stderr)
    assert "sightline" not in done.stderr.replace(str(tmp_path), "")


@BOTH
def test_a_script_that_is_no_python(command: list[str], tmp_path: Path):
    script = write(tmp_path / "broken.py", "print('a'\n")
    done = start(command, script, cwd=tmp_path)
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr
    assert "run.py" not in done.stderr


@BOTH
def test_our_errors_are_one_line_that_names_the_place(command: list[str], tmp_path: Path):
    write(tmp_path / "parts.py", "def make():\n\n    from ultralytics import solutions\n")
    script = write(tmp_path / "asks.py", "import parts\n\nparts.make()\n")
    done = start(command, script, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: parts.py line 3: ultralytics.solutions is not in sightline. Instead: ")
    assert done.stderr.count("\n") == 1


@BOTH
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("replace", [False, True])
def test_processes_that_the_script_starts_know_the_names(command, method: str, replace: bool, tmp_path: Path):
    site = write(tmp_path / "site" / "ultralytics" / "__init__.py", "").parents[1] if replace else tmp_path
    script = write(
        tmp_path / "work" / "many.py",
        "import multiprocessing, os, sys\n"
        "from ultralytics.utils import colorstr\n"
        "class Word:\n    def __init__(self, text): self.text = text\n"
        "def say(word): return colorstr('red', word.text), __name__, os.path.basename(__file__), sys.argv[1:]\n"
        "if __name__ == '__main__':\n"
        "    os.chdir('/')\n"
        f"    with multiprocessing.get_context({method!r}).Pool(1) as pool:\n"
        "        print(pool.map(say, [Word('x')]))\n",
    )
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    words = ["--replace"] if replace else []
    done = start(command, *words, script.relative_to(tmp_path), "a", cwd=tmp_path, PYTHONPATH=path)
    assert done.stderr == ""
    name = "__main__" if method == "fork" else "__mp_main__"
    *told, found = done.stdout.splitlines()
    assert len(told) == replace  # that the installed package is not used: once, however many processes there are
    assert found == f"[('\\x1b[31mx\\x1b[0m', '{name}', 'many.py', ['a'])]"


@pytest.mark.e2e
def test_a_wrong_setting_in_a_script_is_one_line(tmp_path: Path):
    script = write(
        tmp_path / "asks.py",
        "from ultralytics import YOLO\nmodel = YOLO('yolo26n.yaml')\nmodel.train(data='shapes', epochz=3)\n",
    )
    done = start(RUN, script, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: asks.py line 3: 'epochz' is not a setting. Did you mean epochs=100")
    assert done.stderr.count("\n") == 1


@BOTH
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "run needs a script"),
        (["nowhere.py"], "There is no script nowhere.py"),
        (["."], ". is a folder"),
        (["--replace"], "run needs a script"),
        (["--replac", "a.py"], "no option"),
    ],
)
def test_no_script(command: list[str], words: list[str], told: str, tmp_path: Path):
    write(tmp_path / "a.py", "print('ran')")
    done = start(command, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert told.lower() in done.stderr.lower()
    assert done.stdout == ""


def test_errors_before_the_script_are_of_the_classes_that_callers_catch(tmp_path: Path):
    with pytest.raises(UsageError, match="needs a script"):
        run_script([])
    with pytest.raises(MissingInputError, match="There is no script"):
        run_script([str(tmp_path / "nowhere.py")])


@BOTH
def test_an_installed_package_is_left_alone_or_replaced(command: list[str], tmp_path: Path):
    write(tmp_path / "site" / "ultralytics" / "__init__.py", "YOLO = 'the real one'\n")
    script = write(tmp_path / "which.py", "import ultralytics\nprint(getattr(ultralytics, '__version__', 'real'))\n")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    left = start(command, script, cwd=tmp_path, PYTHONPATH=path)
    assert (left.returncode, left.stdout) == (0, "real\n")
    assert left.stderr.count("\n") == 1
    assert "left alone" in left.stderr
    assert "sightline run --replace" in left.stderr
    replaced = start(command, "--replace", script, cwd=tmp_path, PYTHONPATH=path)
    assert replaced.returncode == 0
    assert replaced.stdout.splitlines()[-1].endswith("+sightline.0.1.0")
    assert replaced.stderr == ""


def test_one_of_several_processes_speaks(tmp_path: Path):
    """As `torchrun` starts them: every rank switches the names on, and messages must not come twice."""
    script = write(
        tmp_path / "ranks.py",
        "from sightline import compat\ncompat.enable()\nfrom ultralytics.utils import LOGGER, RANK\n"
        "LOGGER.info(f'I am {RANK}')\nprint(RANK in {-1, 0})\n",
    )
    said = [start([sys.executable], script, cwd=tmp_path, RANK=str(rank)).stdout.split("\n") for rank in (0, 1)]
    assert said == [["I am 0", "True", ""], ["False", ""]]
    assert start([sys.executable], script, cwd=tmp_path).stdout.startswith("I am -1\n")


@BOTH
def test_help(command: list[str], tmp_path: Path):
    done = start(command, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--replace" in done.stdout
    assert "unchanged" in done.stdout
