# The page with aura-nano on a CPU: any machine with Docker, or a Hugging Face Space (docs/deployment.md).
#   docker build -t aura . && docker run --rm -p 127.0.0.1:7860:7860 aura
FROM python:3.11-slim

# Spaces run images as user 1000; nothing here needs more.
RUN useradd --create-home --uid 1000 aura
WORKDIR /home/aura/app

# What changes rarely comes first. The CPU build of torch: the plain one brings gigabytes of CUDA. What only tests and
# checks need stays out.
COPY requirements.txt .
RUN sed -i '/^# Tests and checks/,$d' requirements.txt \
    && pip install --no-cache-dir "$(grep -o '^torch==[0-9.]*' requirements.txt)" \
        --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -r requirements.txt

COPY --chown=aura . .
USER aura
ENV PYTHONUNBUFFERED=1
EXPOSE 7860
# In a container every visitor comes from outside. AURA_AUTH and AURA_ICE_SERVERS are read from the environment.
ENTRYPOINT ["python", "app.py", "--host", "0.0.0.0"]
