#!/bin/sh
# An NVRTC from PyPI, as FOLDER/libnvrtc.so, to be used with FOLDER in LD_LIBRARY_PATH: it looks for
# its other half by name.  usage: cmake/nvrtc.sh cu11|cu12 VERSION FOLDER
set -eu
folder=$3
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" download -q --no-deps -d "$folder" "nvidia-cuda-nvrtc-$1==$2"
python3 -m zipfile -e "$folder"/*.whl "$folder/wheel"
ln -s "$folder"/wheel/nvidia/cuda_nvrtc/lib/*.so* "$folder"
ln -s "$(ls "$folder"/libnvrtc.so.* | head -n 1)" "$folder/libnvrtc.so"
