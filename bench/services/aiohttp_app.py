"""An asyncio server of one process: python aiohttp_app.py PORT"""

import sys

import work
from aiohttp import web


async def answer(request):
    text = work.REQUESTS[request.match_info["kind"]](int(request.match_info["number"]))
    return web.Response(text=text, content_type="application/json")


app = web.Application()
app.add_routes([web.get("/{kind}/{number}", answer)])
if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
