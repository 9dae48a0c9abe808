"""Known event-camera data sets: what they are, whose, and where to get them.

File addresses and checksums are those used by SpikingJelly (commit 00f0fa50) and tonic (commit d0cb6df3).
Pages, sensors and sizes are from the sets' papers and the LAND list (neuromorphicsystems.github.io/land,
commit 7531d897, October 2025). Checksums of pictures are torchvision's (its mnist.py, cifar.py and
caltech101.py). A licence is what somebody stated, with who: read it at its source before use.
"""

import json
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any, Literal


@dataclass(frozen=True)
class RemoteFile:
    """One file that can be fetched without a form or a login.

    Attributes:
        name: What it is called here.
        url: Where it is.
        md5: As published, 32 hex digits; None where none is known.
        sha256: 64 hex digits; None where none is known.
        size_bytes: None where it is not known.
    """

    name: str
    url: str
    md5: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class KnownSet:
    """One known data set.

    Attributes:
        title: Its name.
        task: What its labels are for.
        sensor: Camera and resolution, width x height in pixels.
        classes: Number of classes; None where that does not apply or is not known here.
        recordings: How many there are, in words where the count is not of files.
        download_gb: Size of the download in 10^9 bytes, rounded; None where it is not known here.
        layout: How its files lie.
        page: Where its publisher describes it.
        licence: In short.
        licence_source: Who stated it, and what to check.
        citation: The paper to cite.
        convert_as: The data set name with which this version converts it; None where it cannot.
        note: What else to know.
        files: What `events.datasets.download` fetches; empty where there is no public address.
    """

    title: str
    task: Literal["classification", "detection", "driving"]
    sensor: str
    classes: int | None
    recordings: str
    download_gb: float | None
    layout: str
    page: str
    licence: str
    licence_source: str
    citation: str
    convert_as: str | None = None
    note: str = ""
    files: tuple[RemoteFile, ...] = ()


_FIGSHARE = "https://ndownloader.figshare.com/files/"
_MENDELEY = "https://data.mendeley.com/public-files/datasets/"
_ASK = "none found; ask its publisher before use"
_ORCHARD_2015 = (
    "G. Orchard, A. Jayawant, G. K. Cohen, N. Thakor: Converting Static Image Datasets to Spiking "
    "Neuromorphic Datasets Using Saccades. Frontiers in Neuroscience 9:437, 2015. "
    "doi:10.3389/fnins.2015.00437"
)
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_KRIZHEVSKY_2009 = (
    "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images. Technical report, University of "
    "Toronto, 2009"
)
_PROPHESEE = "non-commercial as commonly reported; read and accept them in its download form"

CATALOGUE: dict[str, KnownSet] = {
    "dvs-cifar10": KnownSet(
        title="CIFAR10-DVS",
        task="classification",
        sensor="DVS128, 128x128",
        classes=10,
        recordings="10,000",
        download_gb=7.8,
        layout="<class>/cifar10_<class>_<0..999>.aedat (AEDAT 2.0), one zip per class",
        page="https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
        licence="CC BY 4.0",
        licence_source="as commonly reported of its figshare page; check there before use",
        citation=(
            "H. Li, H. Liu, X. Ji, G. Li, L. Shi: CIFAR10-DVS: An Event-Stream Dataset for Object "
            "Classification. Frontiers in Neuroscience 11:309, 2017. doi:10.3389/fnins.2017.00309"
        ),
        convert_as="dvs-cifar10",
        note=(
            "No official split: tet, conv_snn, tebn and random are in use, and their accuracies do not "
            "compare."
        ),
        files=(
            RemoteFile("airplane.zip", _FIGSHARE + "7712788", "0afd5c4bf9ae06af762a77b180354fdd"),
            RemoteFile("automobile.zip", _FIGSHARE + "7712791", "8438dfeba3bc970c94962d995b1b9bdd"),
            RemoteFile("bird.zip", _FIGSHARE + "7712794", "a9c207c91c55b9dc2002dc21c684d785"),
            RemoteFile("cat.zip", _FIGSHARE + "7712812", "52c63c677c2b15fa5146a8daf4d56687"),
            RemoteFile("deer.zip", _FIGSHARE + "7712815", "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
            RemoteFile("dog.zip", _FIGSHARE + "7712818", "f379ebdf6703d16e0a690782e62639c3"),
            RemoteFile("frog.zip", _FIGSHARE + "7712842", "cad6ed91214b1c7388a5f6ee56d08803"),
            RemoteFile("horse.zip", _FIGSHARE + "7712851", "e7cbbf77bec584ffbf913f00e682782a"),
            RemoteFile("ship.zip", _FIGSHARE + "7712836", "41c7bd7d6b251be82557c6cce9a7d5c9"),
            RemoteFile("truck.zip", _FIGSHARE + "7712839", "89f3922fd147d9aeff89e76a2b0b70a7"),
        ),
    ),
    "nmnist": KnownSet(
        title="N-MNIST",
        task="classification",
        sensor="ATIS, 34x34",
        classes=10,
        recordings="70,000",
        download_gb=1.1,
        layout="Train|Test/<digit>/<number>.bin (5-byte records)",
        page="https://www.garrickorchard.com/datasets/n-mnist",
        licence="CC BY-SA 4.0",
        licence_source="as stated on the authors' page",
        citation=_ORCHARD_2015,
        convert_as="nmnist",
        note="Official split: 60,000 for training, 10,000 for testing.",
        files=(
            RemoteFile(
                "train.zip",
                _MENDELEY + "468j46mzdv/files/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
                "20959b8e626244a1b502305a9e6e2031",
            ),
            RemoteFile(
                "test.zip",
                _MENDELEY + "468j46mzdv/files/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
                "69ca8762b2fe404d9b9bad1103e97832",
            ),
        ),
    ),
    "n-caltech101": KnownSet(
        title="N-Caltech101",
        task="classification",
        sensor="ATIS, up to 240x180, differs per recording",
        classes=101,
        recordings="8,709",
        download_gb=3.7,
        layout="Caltech101/<class>/image_<number>.bin (5-byte records); the zip holds another zip",
        page="https://www.garrickorchard.com/datasets/n-caltech101",
        licence="CC BY 4.0",
        licence_source="as stated on the authors' page; others report CC BY-SA 4.0, so check before use",
        citation=_ORCHARD_2015,
        convert_as="n-caltech101",
        note="No official split; 80/10/10 and 90/10 at random are in use. Recordings differ in size.",
        files=(
            RemoteFile(
                "N-Caltech101-archive.zip",
                _MENDELEY + "cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded",
                "66201824eabb0239c7ab992480b50ba3",
            ),
        ),
    ),
    "dvs-lip": KnownSet(
        title="DVS-Lip",
        task="classification",
        sensor="DAVIS346, cropped to 128x128",
        classes=100,
        recordings="19,871",
        download_gb=1.7,
        layout="train|test/<word>/<number>.npy (fields t, x, y, p)",
        page="https://sites.google.com/view/event-based-lipreading",
        licence="not known",
        licence_source=_ASK,
        citation=(
            "G. Tan, Y. Wang, H. Han, Y. Cao, F. Wu, Z.-J. Zha: Multi-grained Spatio-Temporal Features "
            "Perceived Network for Event-based Lip-Reading. CVPR 2022. doi:10.1109/CVPR52688.2022.01946"
        ),
        convert_as="dvs-lip",
        note="On Google Drive; md5 of DVS-Lip.zip: 2dcb959255122d4cdeb6094ca282494b.",
    ),
    "mnist-dvs": KnownSet(
        title="MNIST-DVS",
        task="classification",
        sensor="128x128 DVS",
        classes=10,
        recordings="30,000",
        download_gb=6.4,
        layout=(
            "grabbed_data<digit>/scale<4|8|16>/mnist_<digit>_scale<04|08|16>_<number>.aedat (AEDAT 2.0); "
            "folders as published code names them"
        ),
        page="http://www2.imse-cnm.csic.es/caviar/MNISTDVS.html",
        licence="not known",
        licence_source=_ASK,
        citation=(
            "T. Serrano-Gotarredona, B. Linares-Barranco: Poker-DVS and MNIST-DVS. Their History, How They "
            "Were Made, and Other Details. Frontiers in Neuroscience 9:481, 2015. "
            "doi:10.3389/fnins.2015.00481"
        ),
        convert_as="mnist-dvs",
        note="No official split. Each of 10,000 digits was recorded once at each of 3 scales.",
    ),
    "dvs-gesture": KnownSet(
        title="DVS128 Gesture",
        task="classification",
        sensor="DVS128, 128x128",
        classes=11,
        recordings="1,342 gestures",
        download_gb=2.7,
        layout="user<NN>_<light>.aedat (AEDAT 3.1) with user<NN>_<light>_labels.csv",
        page="http://research.ibm.com/dvsgesture/",
        licence="CC BY 4.0",
        licence_source="as commonly reported of the LICENSE.txt beside the data; check before use",
        citation=(
            "A. Amir, B. Taba, D. Berg, T. Melano, J. McKinstry et al.: A Low Power, Fully Event-Based "
            "Gesture Recognition System. CVPR 2017. doi:10.1109/CVPR.2017.781"
        ),
        convert_as="dvs-gesture",
        note=(
            "Libraries count 1,341 to 1,464 gestures: see --select in docs/datasets.md. In IBM's box "
            "(ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8), by hand; md5 of DvsGesture.tar.gz: "
            "8a5c71fb11e24e5ca5b11866ca6c00a1. Official split by user: 1 to 23, 24 to 29."
        ),
    ),
    "ncars": KnownSet(
        title="N-Cars",
        task="classification",
        sensor="ATIS, crops up to 120x100",
        classes=2,
        recordings="24,029",
        download_gb=0.29,
        layout="n-cars_train|test/cars|background/obj_<number>_td.dat (Prophesee DAT)",
        page="https://www.prophesee.ai/2018/03/13/dataset-n-cars/",
        licence="Prophesee's terms",
        licence_source=_PROPHESEE,
        citation=(
            "A. Sironi, M. Brambilla, N. Bourdis, X. Lagorce, R. Benosman: HATS: Histograms of Averaged Time "
            "Surfaces for Robust Event-Based Object Classification. CVPR 2018. doi:10.1109/CVPR.2018.00186"
        ),
        convert_as="ncars",
        note="Official split: 15,422 for training, 8,607 for testing.",
    ),
    "asl-dvs": KnownSet(
        title="ASL-DVS",
        task="classification",
        sensor="DAVIS240C, 240x180",
        classes=24,
        recordings="100,800",
        download_gb=None,
        layout="<letter>/<letter>_<number>.mat (ts, x, y, pol; y from the bottom)",
        page="https://github.com/PIX2NVS/NVS2Graph",
        licence="not known",
        licence_source=_ASK,
        citation=(
            "Y. Bi, A. Chadha, A. Abbas, E. Bourtsoulatze, Y. Andreopoulos: Graph-Based Object "
            "Classification for Neuromorphic Vision Sensing. ICCV 2019. doi:10.1109/ICCV.2019.00058"
        ),
        convert_as="asl-dvs",
        note=(
            "No official split; 80/20 at random is in use. Its Dropbox archive is packed anew at each "
            "download."
        ),
    ),
    "es-imagenet": KnownSet(
        title="ES-ImageNet",
        task="classification",
        sensor="simulated, 224x224",
        classes=1000,
        recordings="about 1.3 million",
        download_gb=100,
        layout="npz files, in rar parts",
        page="https://cloud.tsinghua.edu.cn/d/94873ab4ec2a4eb497b3/",
        licence="not known",
        licence_source=_ASK,
        citation=(
            "Y. Lin, W. Ding, S. Qiang, L. Deng, G. Li: ES-ImageNet: A Million Event-Stream Classification "
            "Dataset for Spiking Neural Networks. Frontiers in Neuroscience 15:726582, 2021. "
            "doi:10.3389/fnins.2021.726582"
        ),
    ),
    "hardvs": KnownSet(
        title="HARDVS",
        task="classification",
        sensor="DAVIS346, 346x260",
        classes=300,
        recordings="107,646",
        download_gb=None,
        layout="action_<number>/, with train, validation and test lists",
        page="https://github.com/Event-AHU/HARDVS",
        licence="not known",
        licence_source=_ASK,
        citation=(
            "X. Wang, Z. Wu, B. Jiang, Z. Bao, L. Zhu, G. Li, Y. Wang, Y. Tian: HARDVS: Revisiting Human "
            "Activity Recognition with Dynamic Vision Sensors. AAAI 2024. doi:10.1609/aaai.v38i6.28372"
        ),
    ),
    "gen1": KnownSet(
        title="Gen1 Automotive Detection",
        task="detection",
        sensor="ATIS, 304x240",
        classes=2,
        recordings="39 hours, 255,000 boxes",
        download_gb=None,
        layout="*_td.dat with *_bbox.npy, 60 s pieces",
        page="https://www.prophesee.ai/2020/01/24/prophesee-gen1-automotive-detection-dataset/",
        licence="Prophesee's terms",
        licence_source=_PROPHESEE,
        citation=(
            "P. de Tournemire, D. Nitti, E. Perot, D. Migliore, A. Sironi: A Large Scale Event-based "
            "Detection Dataset for Automotive. arXiv:2001.08499, 2020"
        ),
        convert_as="gen1",
    ),
    "1mpx": KnownSet(
        title="1 Megapixel Automotive Detection",
        task="detection",
        sensor="Prophesee Gen4, 1280x720",
        classes=7,
        recordings="14.65 hours, 25 million boxes",
        download_gb=1230,
        layout="*_td.dat with *_bbox.npy",
        page="https://www.prophesee.ai/2020/11/24/automotive-megapixel-event-based-dataset/",
        licence="Prophesee's terms",
        licence_source=_PROPHESEE,
        citation=(
            "E. Perot, P. de Tournemire, D. Nitti, J. Masci, A. Sironi: Learning to Detect Objects with a 1 "
            "Megapixel Event Camera. NeurIPS 2020. arXiv:2009.13436"
        ),
        convert_as="1mpx",
    ),
    "pedro": KnownSet(
        title="PEDRo",
        task="detection",
        sensor="DAVIS346, 346x260",
        classes=1,
        recordings="40 ms windows",
        download_gb=6.5,
        layout="numpy/train|val|test/*.npy with xml/ (VOC) and yolo/ labels",
        page="https://github.com/SSIGPRO/PEDRo-Event-Based-Dataset",
        licence="BSD-2-Clause",
        licence_source="as stated in its README",
        citation=(
            "C. Boretti, P. Bich, F. Pareschi, L. Prono, R. Rovatti, G. Setti: PEDRo: an Event-based Dataset "
            "for Person Detection in Robotics. CVPR Workshops 2023. doi:10.1109/CVPRW59228.2023.00426"
        ),
        convert_as="pedro",
    ),
    "dsec": KnownSet(
        title="DSEC",
        task="driving",
        sensor="Prophesee Gen3.1 stereo, 640x480",
        classes=None,
        recordings="53 sequences",
        download_gb=150,
        layout="<sequence>/events/left|right/events.h5",
        page="https://dsec.ifi.uzh.ch/dsec-datasets/download/",
        licence="CC BY-SA 4.0",
        licence_source="as commonly reported of its page; check there before use",
        citation=(
            "M. Gehrig, W. Aarents, D. Gehrig, D. Scaramuzza: DSEC: A Stereo Event Camera Dataset for "
            "Driving Scenarios. IEEE Robotics and Automation Letters 6(3), 2021. "
            "doi:10.1109/LRA.2021.3068942"
        ),
    ),
    "mnist": KnownSet(
        title="MNIST",
        task="classification",
        sensor="pictures, 28x28 grey",
        classes=10,
        recordings="70,000",
        download_gb=0.012,
        layout="train|t10k-images-idx3-ubyte.gz and train|t10k-labels-idx1-ubyte.gz",
        page="http://yann.lecun.com/exdb/mnist/",
        licence="not known",
        licence_source=_ASK,
        citation=(
            "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document "
            "Recognition. Proceedings of the IEEE 86(11), 1998. doi:10.1109/5.726791"
        ),
        convert_as="mnist",
        note="Official split: 60,000 for training, 10,000 for testing.",
        files=(
            RemoteFile(
                "train-images-idx3-ubyte.gz",
                _MNIST + "train-images-idx3-ubyte.gz",
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                _MNIST + "train-labels-idx1-ubyte.gz",
                "d53e105ee54ea40749a09fcbcd1e9432",
            ),
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                _MNIST + "t10k-images-idx3-ubyte.gz",
                "9fb629c4189551a2d022fa330f9573f3",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                _MNIST + "t10k-labels-idx1-ubyte.gz",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
    ),
    "cifar10": KnownSet(
        title="CIFAR-10",
        task="classification",
        sensor="pictures, 32x32 colour",
        classes=10,
        recordings="60,000",
        download_gb=0.17,
        layout="cifar-10-python.tar.gz, as it is or unpacked; the binary version too",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="not known",
        licence_source=_ASK,
        citation=_KRIZHEVSKY_2009,
        convert_as="cifar10",
        note="Official split: 50,000 for training, 10,000 for testing. Its archive need not be unpacked.",
        files=(
            RemoteFile(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
            ),
        ),
    ),
    "cifar100": KnownSet(
        title="CIFAR-100",
        task="classification",
        sensor="pictures, 32x32 colour",
        classes=100,
        recordings="60,000",
        download_gb=0.17,
        layout="cifar-100-python.tar.gz, as it is or unpacked; the binary version too",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="not known",
        licence_source=_ASK,
        citation=_KRIZHEVSKY_2009,
        convert_as="cifar100",
        note="Labels are the 100 fine ones. Official split: 50,000 for training, 10,000 for testing.",
        files=(
            RemoteFile(
                "cifar-100-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "eb9058c3a382ffc7106e4002c42a8d85",
            ),
        ),
    ),
    "caltech101": KnownSet(
        title="Caltech-101",
        task="classification",
        sensor="pictures, about 300x200 colour",
        classes=101,
        recordings="8,677 without the background",
        download_gb=0.13,
        layout="101_ObjectCategories/<class>/image_<number>.jpg",
        page="https://data.caltech.edu/records/mzrjq-6wc02",
        licence="CC BY 4.0",
        licence_source="as commonly reported of its page; check there before use",
        citation=(
            "L. Fei-Fei, R. Fergus, P. Perona: Learning Generative Visual Models from Few Training Examples. "
            "CVPR Workshops 2004. doi:10.1109/CVPR.2004.383"
        ),
        convert_as="caltech101",
        note=(
            "No official split. md5 of 101_ObjectCategories.tar.gz: b224c7392d521a49829488ab0f1120d9; "
            "unpack it and name its folder."
        ),
    ),
    "imagenet": KnownSet(
        title="ImageNet (ILSVRC 2012)",
        task="classification",
        sensor="pictures, of many sizes, colour",
        classes=1000,
        recordings="1,281,167 and 50,000",
        download_gb=144,
        layout="train/<class>/<picture>.JPEG and val/<class>/<picture>.JPEG",
        page="https://www.image-net.org/",
        licence="non-commercial research",
        licence_source="as commonly reported; read and accept its terms when asking for access",
        citation=(
            "O. Russakovsky, J. Deng, H. Su, J. Krause et al.: ImageNet Large Scale Visual Recognition "
            "Challenge. International Journal of Computer Vision 115, 2015. doi:10.1007/s11263-015-0816-y"
        ),
        convert_as="imagenet",
        note=(
            "Sort the validation pictures into class folders first; they are tested on. A folder with some "
            "of the classes, such as ImageNet-100, is read in the same way."
        ),
    ),
}


def catalogue_rows() -> list[dict[str, Any]]:
    """Return the catalogue as plain JSON types, one row per set, its `name` included."""
    rows = [{"name": name, **asdict(known)} for name, known in CATALOGUE.items()]
    return json.loads(json.dumps(rows))


def format_catalogue(*, width: int = 110) -> str:
    """Return the catalogue as a table for people, without colours, at most `width` columns wide."""
    # Here, since the table is drawn only when somebody asks for it.
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="")
    headings = ("name", "sensor (w x h)", "classes", "recordings", "GB", "licence*", "convert as", "download")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for name, known in CATALOGUE.items():
        table.add_row(
            name,
            known.sensor,
            "" if known.classes is None else str(known.classes),
            known.recordings,
            "?" if known.download_gb is None else f"{known.download_gb:g}",
            known.licence,
            known.convert_as or "not yet",
            "yes" if known.files else "by hand",
        )
    text = StringIO()
    Console(file=text, width=width, no_color=True, highlight=False, force_terminal=False).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([*lines, "", "* as others stated it: read the licence at its source before use"])


def format_known_set(name: str) -> str:
    """Return everything the catalogue knows about one set, a line per fact; `name` is its key."""
    known = CATALOGUE[name]
    facts = {
        "name": f"{name} ({known.title})",
        "task": known.task,
        "sensor": known.sensor,
        "classes": known.classes,
        "recordings": known.recordings,
        "download": None if known.download_gb is None else f"about {known.download_gb:g} GB",
        "layout": known.layout,
        "page": known.page,
        "licence": f"{known.licence}, {known.licence_source}",
        "citation": known.citation,
        "note": known.note or None,
        "convert as": known.convert_as or "not yet",
        "get it": None if known.files else f"by hand, from {known.page}",
    }
    lines = [f"{fact:<11} {value}" for fact, value in facts.items() if value is not None]
    files = [f"{'file':<11} {file.name} {file.url} md5 {file.md5 or 'not known'}" for file in known.files]
    return "\n".join([*lines, *files])
