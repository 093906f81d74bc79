"""A Flask application, for gunicorn with several worker processes: gunicorn --preload -w 2 flask_app:app"""

import work
from flask import Flask, Response

app = Flask(__name__)


@app.get("/<kind>/<int:number>")
def answer(kind, number):
    return Response(work.REQUESTS[kind](number), mimetype="application/json")
