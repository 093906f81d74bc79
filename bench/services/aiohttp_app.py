"""An asyncio server of one process: python aiohttp_app.py PORT"""

import sys

import work
from aiohttp import web


async def small(request):
    return web.Response(text=work.small(int(request.match_info["number"])), content_type="application/json")


async def large(request):
    return web.Response(text=work.large(int(request.match_info["number"])), content_type="application/json")


app = web.Application()
app.add_routes([web.get("/small/{number}", small), web.get("/large/{number}", large)])
if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
