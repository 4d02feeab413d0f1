import subprocess
import sys

import pytest

from tiny_towers import CLIP_VISION
from unmask.models.backbone import build_backbone
from unmask.models.checkpoint import save
from unmask.models.configuration import DetectorSpec, HeadSpec, backbone_config_of
from unmask.models.heads import new_head
from unmask.models.modeling import assemble
from unmask.preprocess import Preprocess

LOAD = """
import inspect, transformers.models.auto.configuration_auto as table
assert type(table.AutoConfig.from_pretrained(sys.argv[1])).__name__ == "UnmaskConfig"
assert type(table.__spec__.loader).__name__ == "SourceFileLoader"
assert len(inspect.getsource(table)) > 1000
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained(sys.argv[1])
print(type(model).__name__, type(AutoImageProcessor.from_pretrained(sys.argv[1])).__name__)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tower = build_backbone(CLIP_VISION, ("pooler",))
    spec = DetectorSpec(
        backbone_config=backbone_config_of(tower.config),
        features=("pooler",),
        head=HeadSpec(),
        preprocess=Preprocess.openai_clip(32),
    )
    where = tmp_path_factory.mktemp("api") / "detector"
    return save(assemble(tower, new_head(32, 1, 0), spec), where, card="")


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_unmask_loads_neither_torch_nor_transformers():
    code = "import unmask\nprint({'torch', 'transformers', 'cv2', 'dlib'} & set(sys.modules))"
    assert run(code) == "set()"


@pytest.mark.parametrize(
    "imports",
    [
        "import unmask",
        "from transformers import AutoModelForImageClassification, AutoConfig\nimport unmask",
    ],
)
def test_the_auto_classes_know_detectors_in_any_order_of_imports(folder, imports):
    assert run(imports + LOAD, folder) == "UnmaskForImageClassification CLIPImageProcessorPil"


def test_importing_twice_registers_once():
    code = (
        "import unmask\nfrom unmask._transformers import register_on_import\n"
        "register_on_import()\nprint(len([f for f in sys.meta_path if f.__class__.__module__ "
        "== 'unmask._transformers']))"
    )
    assert run(code) == "1"
