# On a CPU: what README.md says, `pip install .` and then the command `tfdetect`.
#   docker build --tag tfdetect .
#   docker run --rm --volume "$PWD:/data" tfdetect predict --model models/mask_rcnn \
#       --input photos/ --output pictures/
FROM python:3.12-slim AS build
# The compiler is for the native operators; the image in the end has none.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/tfdetect
ENV PATH=/opt/tfdetect/bin:$PATH TFDETECT_CACHE=/opt/tfdetect/operators
COPY . /source
RUN pip install --no-cache-dir /source \
    && tfdetect build-operators

FROM python:3.12-slim
# With it Pillow joins and orders the letters of Arabic, Hebrew and Indic labels.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libfribidi0 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/tfdetect /opt/tfdetect
ENV PATH=/opt/tfdetect/bin:$PATH TFDETECT_CACHE=/opt/tfdetect/operators
WORKDIR /data
ENTRYPOINT ["tfdetect"]
CMD ["--help"]
