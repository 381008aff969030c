// A real provider of OpenID Connect (npm oidc-provider), as a test wants it: what is said in PROVIDER.
// Its login page is a form that sends itself, as the person who is named in login_hint or in the settings.
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const said = JSON.parse(process.env.PROVIDER);
const found = createRequire(said.packages).resolve('oidc-provider');
const { default: Provider } = await import(pathToFileURL(found));

const provider = new Provider(said.issuer, {
  clients: said.clients,
  pkce: { methods: ['S256'], required: () => true },
  cookies: { keys: ['a key of a test'] },
  conformIdTokenClaims: false,
  claims: { openid: ['sub'], email: ['email'], groups: ['groups'] },
  scopes: ['openid', 'email', 'groups'],
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, groups: ['staff', 'ops'], filler: 'x' }),
  }),
  features: {
    devInteractions: { enabled: false },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: (ctx, form) => {
        ctx.body = `<!doctype html>${form}<script>
          const form = document.forms[0];
          const yes = document.createElement('input');
          yes.type = 'hidden'; yes.name = 'logout'; yes.value = 'yes';
          form.append(yes); form.submit();
        </script>`;
      },
    },
  },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  // Nobody is asked whether the client may know.
  loadExistingGrant: async (ctx) => {
    const { client, session } = ctx.oidc;
    const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid email groups');
    await grant.save();
    return grant;
  },
});

const callback = provider.callback();
const handle = async (request, answer) => {
  if (!request.url.startsWith('/interaction/')) return callback(request, answer);
  const { params } = await provider.interactionDetails(request, answer);
  if (request.method === 'GET') {
    answer.setHeader('content-type', 'text/html');
    answer.end(`<!doctype html><form method="post" action="${request.url}"></form><script>document.forms[0].submit()</script>`);
    return;
  }
  const who = params.login_hint ?? said.person;
  const result = who === 'nobody' ? { error: 'access_denied' } : { login: { accountId: who } };
  await provider.interactionFinished(request, answer, result, { mergeWithLastSubmission: false });
};
const serve = (request, answer) => handle(request, answer).catch((error) => {
  answer.statusCode = 500;
  answer.end(String(error));
});
const server = said.certificate
  ? https.createServer({ cert: said.certificate, key: said.key }, serve)
  : http.createServer(serve);
server.listen(said.port, '127.0.0.1');
