"""A Flask application, for gunicorn with several worker processes: gunicorn --preload -w 2 flask_app:app"""

import work
from flask import Flask, Response

app = Flask(__name__)


@app.get("/small/<int:number>")
def small(number):
    return Response(work.small(number), mimetype="application/json")


@app.get("/large/<int:number>")
def large(number):
    return Response(work.large(number), mimetype="application/json")
