# One image for the web server and the daemon; see docs/deploy.md.
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 gradsentry \
    && mkdir -p /data/dagster /landing \
    && chown -R gradsentry /data /landing
WORKDIR /app

# The libraries first: they change seldom. The CPU build of torch; for a GPU leave the index out.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
COPY gradsentry_lib gradsentry_lib
COPY gradsentry_assets gradsentry_assets
RUN pip install --no-cache-dir --constraint constraints.txt '.[dagster,report]'

COPY workspace.yaml ./
COPY --chown=gradsentry dagster.yaml /data/dagster/

USER gradsentry
ENV DAGSTER_HOME=/data/dagster \
    GRADSENTRY_HOME=/data/store \
    GRADSENTRY_CACHE=/data/cache \
    GRADSENTRY_LANDING=/landing
EXPOSE 3000
CMD ["dagster-webserver", "-w", "workspace.yaml", "-h", "0.0.0.0", "-p", "3000"]
