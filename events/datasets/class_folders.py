"""Published sets in class folders: N-Caltech101, N-Cars, DVS-Lip and ASL-DVS.

All are listed by `events.datasets.folder`; here is what each has of its own. Layouts are those of the
released archives as other libraries read them (tonic, SpikingJelly); counts are the papers'.
"""

import re
from functools import partial

from events.datasets.folder import FolderLayout, list_folder
from events.datasets.splits import TEST, TRAIN
from events.recording import ReadOptions

# Orchard et al. 2015: ATIS, up to 240 x 180 pixels; each recording has its own extent. Its archive also
# holds `annotation_<number>.bin`, which are outlines and no recordings.
N_CALTECH101 = FolderLayout(
    dataset="n-caltech101",
    expected="<class>/image_<number>.bin",
    suffixes=frozenset({".bin"}),
    file_name=re.compile(r"image_(?P<number>\d+)\.bin", re.IGNORECASE),
    full=8709,
    sensor_hw=(180, 240),
    read_options=ReadOptions(format="bin40", sensor_hw=(180, 240)),
)

# Sironi et al. 2018: crops of an ATIS, at most 120 x 100 pixels; their headers state no size.
N_CARS = FolderLayout(
    dataset="ncars",
    expected="n-cars_train|n-cars_test/cars|background/obj_<number>_td.dat",
    suffixes=frozenset({".dat"}),
    file_name=re.compile(r"obj_(?P<number>\d+)_td\.dat", re.IGNORECASE),
    split_folders={"n-cars_train": TRAIN, "train": TRAIN, "n-cars_test": TEST, "test": TEST},
    class_names=("background", "cars"),
    full=24_029,
    sensor_hw=(100, 120),
    read_options=ReadOptions(sensor_hw=(100, 120)),
)

# Tan et al. 2022: a DAVIS346 cropped to 128 x 128 pixels; structured arrays, one word each.
DVS_LIP = FolderLayout(
    dataset="dvs-lip",
    expected="train|test/<word>/<number>.npy",
    suffixes=frozenset({".npy"}),
    file_name=re.compile(r"(?P<number>\d+)\.npy", re.IGNORECASE),
    full=19_871,
    sensor_hw=(128, 128),
    read_options=ReadOptions(format="npy", sensor_hw=(128, 128)),
)

# Bi et al. 2019: a DAVIS240C; the letters that are signed without moving, so neither j nor z.
ASL_DVS = FolderLayout(
    dataset="asl-dvs",
    expected="<letter>/<letter>_<number>.mat",
    suffixes=frozenset({".mat"}),
    file_name=re.compile(r"(?P<class_name>[a-z])_(?P<number>\d+)\.mat", re.IGNORECASE),
    class_names=tuple("abcdefghiklmnopqrstuvwxy"),
    full=100_800,
    sensor_hw=(180, 240),
    read_options=ReadOptions(sensor_hw=(180, 240)),
)

list_n_caltech101 = partial(list_folder, layout=N_CALTECH101)
list_n_cars = partial(list_folder, layout=N_CARS)
list_dvs_lip = partial(list_folder, layout=DVS_LIP)
list_asl_dvs = partial(list_folder, layout=ASL_DVS)
