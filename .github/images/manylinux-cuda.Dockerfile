# The manylinux image that cibuildwheel builds in, with a CUDA toolkit in it.
#   docker build --build-arg CUDA=13.0.1 -t manylinux-cuda -f .github/images/manylinux-cuda.Dockerfile .github
ARG CUDA=13.0.1
FROM nvidia/cuda:${CUDA}-devel-rockylinux8 AS toolkit

FROM quay.io/pypa/manylinux_2_28_x86_64
COPY --from=toolkit /usr/local/cuda /usr/local/cuda
ENV CUDA_HOME=/usr/local/cuda
ENV PATH=/usr/local/cuda/bin:$PATH
