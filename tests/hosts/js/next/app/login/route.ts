export async function POST(request: Request): Promise<Response> {
  const { user } = (await request.json()) as { user: string };
  return new Response("welcome", { headers: { "Set-Cookie": `user=${user}; Path=/; HttpOnly` } });
}
