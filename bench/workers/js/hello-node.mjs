import http from "node:http";

http
  .createServer((request, response) => {
    response.setHeader("Content-Type", "text/plain;charset=UTF-8");
    response.end("Hello World!");
  })
  .listen(Number(process.env.PORT), "127.0.0.1");
