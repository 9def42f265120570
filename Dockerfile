# A GPU runner's libraries. What is measured is not in it: the wheels of base and head come with each job (.ci/gpu), into a
# container without a network. Git is for `copycost gate`, which compares two commits.
#
#   docker build --tag copycost-gpu .
#   docker run --rm --gpus all --network none --volume "$PWD/wheels:/wheels:ro" --volume "$PWD/out:/out" copycost-gpu
FROM nvidia/cuda:12.9.1-runtime-ubuntu24.04
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv g++ git \
    && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python3 -m pip install --break-system-packages --no-cache-dir /source/suite/copycost_meter '/source[gpu]' \
    && python3 -m pip uninstall --break-system-packages --yes copycost copycost-meter \
    && cp -r /source/.ci /ci \
    && rm -rf /source
# The image runs as nobody in particular: the device needs no rights.
RUN useradd --create-home runner && mkdir /wheels /out && chown runner /out
USER runner
WORKDIR /home/runner
ENTRYPOINT ["bash", "/ci/gpu"]
CMD ["/wheels", "/out"]
