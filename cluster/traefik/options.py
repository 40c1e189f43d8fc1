"""The options that Traefik's dynamic configuration has, of versions 2 and 3, and of which type each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Scalar = Literal["text", "flag", "number", "port", "duration", "list"]


@dataclass(frozen=True, slots=True)
class Options:
    """Options below an option, by name. One that may be `empty` also stands by itself, as `tls=true`."""

    known: Mapping[str, Kind]
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Many:
    """Counted from 0: `domains[0].main`."""

    each: Options


@dataclass(frozen=True, slots=True)
class Named:
    """A value for each name of people's choice, as a header's."""

    each: Scalar


@dataclass(frozen=True, slots=True)
class Anything:
    """What a plugin takes."""


Kind = Scalar | Options | Many | Named | Anything


def _all(kind: Kind, names: str) -> dict[str, Kind]:
    """Give options of one kind; mappings of them are put together by `|`."""
    return dict.fromkeys(names.split(), kind)


_DOMAINS = Many(Options({"main": "text", "sans": "list"}))
_COOKIE = Options(
    _all("text", "name sameSite path domain") | _all("flag", "secure httpOnly") | {"maxAge": "number"}, True
)
_ROUTER_TLS = _all("text", "options certResolver") | {"domains": _DOMAINS}
_OBSERVED = Options(_all("flag", "accessLogs metrics tracing") | {"traceVerbosity": "text"})
_CLIENT_TLS = Options(_all("text", "ca cert key") | _all("flag", "caOptional insecureSkipVerify"))
_STRATEGY = Options({"depth": "number", "excludedIPs": "list", "ipv6Subnet": "number"})
_CRITERION = Options({"ipStrategy": _STRATEGY, "requestHeaderName": "text", "requestHost": "flag"})
_AUTH = _all("text", "usersFile realm headerField") | {"users": "list", "removeHeader": "flag"}
_SUBJECT = _all("flag", "country province locality organization commonName serialNumber domainComponent")

_HTTP_ROUTER = Options(
    _all("list", "entryPoints middlewares")
    | _all("text", "service rule ruleSyntax")
    | {"priority": "number", "tls": Options(_ROUTER_TLS, True), "observability": _OBSERVED}
)
_TCP_ROUTER = Options(
    _all("list", "entryPoints middlewares")
    | _all("text", "service rule ruleSyntax")
    | {"priority": "number", "tls": Options(_ROUTER_TLS | {"passthrough": "flag"}, True)}
)
_UDP_ROUTER = Options({"entryPoints": "list", "service": "text"})

_HTTP_CHECK = Options(
    _all("text", "scheme mode path method hostname")
    | _all("number", "status port")
    | _all("duration", "interval unhealthyInterval timeout")
    | {"followRedirects": "flag", "headers": Named("text")}
)
_HTTP_SERVICE = Options(
    {
        "loadBalancer": Options(
            {
                "server": Options({"port": "port", "weight": "number", "scheme": "text", "preservePath": "flag"}),
                "sticky": Options({"cookie": _COOKIE}, True),
                "healthCheck": _HTTP_CHECK,
                "passiveHealthCheck": Options({"failureWindow": "duration", "maxFailedAttempts": "number"}),
                "passHostHeader": "flag",
                "responseForwarding": Options({"flushInterval": "duration"}),
                "serversTransport": "text",
                "strategy": "text",
            }
        )
    }
)
_TCP_SERVICE = Options(
    {
        "loadBalancer": Options(
            {
                "server": Options({"port": "port", "tls": "flag"}),
                "terminationDelay": "number",
                "proxyProtocol": Options({"version": "number"}, True),
                "serversTransport": "text",
            }
        )
    }
)
_UDP_SERVICE = Options({"loadBalancer": Options({"server": Options({"port": "port"})})})

_HEADERS = Options(
    {name: Named("text") for name in ("customRequestHeaders", "customResponseHeaders", "sslProxyHeaders")}
    | _all(
        "list",
        "accessControlAllowHeaders accessControlAllowMethods accessControlAllowOriginList allowedHosts"
        " accessControlAllowOriginListRegex accessControlExposeHeaders hostsProxyHeaders",
    )
    | _all("number", "accessControlMaxAge stsSeconds")
    | _all(
        "flag",
        "accessControlAllowCredentials addVaryHeader sslRedirect sslTemporaryRedirect sslForceHost stsPreload"
        " stsIncludeSubdomains forceSTSHeader frameDeny contentTypeNosniff browserXssFilter isDevelopment",
    )
    | _all(
        "text",
        "accessControlAllowOrigin sslHost customFrameOptionsValue customBrowserXSSValue contentSecurityPolicy"
        " contentSecurityPolicyReportOnly publicKey referrerPolicy featurePolicy permissionsPolicy",
    )
)
_HTTP_MIDDLEWARE = Options(
    {
        "addPrefix": Options({"prefix": "text"}),
        "basicAuth": Options(_AUTH),
        "buffering": Options(
            _all("number", "maxRequestBodyBytes memRequestBodyBytes maxResponseBodyBytes memResponseBodyBytes")
            | {"retryExpression": "text"}
        ),
        "chain": Options({"middlewares": "list"}),
        "circuitBreaker": Options(
            _all("duration", "checkPeriod fallbackDuration recoveryDuration")
            | {"expression": "text", "responseCode": "number"}
        ),
        "compress": Options(
            _all("list", "excludedContentTypes includedContentTypes encodings")
            | {"minResponseBodyBytes": "number", "defaultEncoding": "text"},
            True,
        ),
        "contentType": Options({"autoDetect": "flag"}, True),
        "digestAuth": Options(_AUTH),
        "errors": Options(_all("text", "service query") | {"status": "list", "statusRewrites": Named("number")}),
        "forwardAuth": Options(
            _all("text", "address authResponseHeadersRegex headerField")
            | _all("flag", "trustForwardHeader forwardBody preserveLocationHeader preserveRequestMethod")
            | _all("list", "authResponseHeaders authRequestHeaders addAuthCookiesToResponse")
            | {"tls": _CLIENT_TLS, "maxBodySize": "number"}
        ),
        "grpcWeb": Options({"allowOrigins": "list"}),
        "headers": _HEADERS,
        "inFlightReq": Options({"amount": "number", "sourceCriterion": _CRITERION}),
        "ipAllowList": Options({"sourceRange": "list", "ipStrategy": _STRATEGY, "rejectStatusCode": "number"}),
        "ipWhiteList": Options({"sourceRange": "list", "ipStrategy": _STRATEGY}),
        "passTLSClientCert": Options(
            {
                "pem": "flag",
                "info": Options(
                    _all("flag", "notAfter notBefore sans serialNumber")
                    | {"subject": Options(_SUBJECT | _all("flag", "organizationalUnit")), "issuer": Options(_SUBJECT)}
                ),
            }
        ),
        "plugin": Anything(),
        "rateLimit": Options(_all("number", "average burst") | {"period": "duration", "sourceCriterion": _CRITERION}),
        "redirectRegex": Options(_all("text", "regex replacement") | {"permanent": "flag"}),
        "redirectScheme": Options(_all("text", "scheme port") | {"permanent": "flag"}),
        "replacePath": Options({"path": "text"}),
        "replacePathRegex": Options(_all("text", "regex replacement")),
        "retry": Options({"attempts": "number", "initialInterval": "duration"}),
        "stripPrefix": Options({"prefixes": "list", "forceSlash": "flag"}),
        "stripPrefixRegex": Options({"regex": "list"}),
    }
)
_RANGES = Options({"sourceRange": "list"})
_TCP_MIDDLEWARE = Options(
    {"ipAllowList": _RANGES, "ipWhiteList": _RANGES, "inFlightConn": Options({"amount": "number"})}
)

PROTOCOLS: Mapping[str, Mapping[str, Options]] = {
    "http": {"routers": _HTTP_ROUTER, "services": _HTTP_SERVICE, "middlewares": _HTTP_MIDDLEWARE},
    "tcp": {"routers": _TCP_ROUTER, "services": _TCP_SERVICE, "middlewares": _TCP_MIDDLEWARE},
    "udp": {"routers": _UDP_ROUTER, "services": _UDP_SERVICE},
}
"""What labels may tell of, by protocol and part."""
