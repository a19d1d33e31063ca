"""A local web server that summarises pasted or uploaded documents and shows the sources of each summary.

Requires ``pip install "pyramidion_fairseq[serve]"``: starlette for requests, uvicorn for connections and
python-multipart for uploads. The rest of the package does not import this one.
"""
