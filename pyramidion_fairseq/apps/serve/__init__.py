"""A local web server: paste or upload a document, see its summary and where it came from.

Needs ``pip install "pyramidion_fairseq[serve]"``: starlette for requests, uvicorn for connections and python-multipart
for uploads. Nothing else of the package imports this one.
"""
