"""python -m kubectl_sidecar."""

from kubectl_sidecar.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
